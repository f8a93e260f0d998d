#!/usr/bin/env python3
"""Django's commands for the shop: migrate, sync_cassandra, runserver, follow_orders."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
execute_from_command_line(sys.argv)
