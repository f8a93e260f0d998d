"""A shop with its orders in Postgres, its payments in Cassandra and its hot reads in Redis.

Where the services are say the variables that Tollgate reads, so that `eval "$(cargo stack env)"` is for both.
"""

import os
from urllib.parse import unquote, urlsplit

POSTGRES = urlsplit(os.environ.get("TOLLGATE_POSTGRES_URL", "postgres://tollgate@127.0.0.1:5432/tollgate"))
CASSANDRA, _, CASSANDRA_PORT = os.environ.get("TOLLGATE_CASSANDRA_NODES", "127.0.0.1:9042").split(",")[0].rpartition(":")

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "an example's only")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django_cassandra_engine",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "orders",
    "payments",
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": POSTGRES.hostname,
        "PORT": POSTGRES.port,
        "NAME": POSTGRES.path.lstrip("/"),
        "USER": unquote(POSTGRES.username or ""),
        "PASSWORD": unquote(POSTGRES.password or ""),
        # The shop's tables, and behind them Tollgate's own: `postgres.schema` in tollgate.toml.
        "OPTIONS": {"options": f"-c search_path={os.environ.get('SHOP_SCHEMAS', 'public,tollgate')}"},
    },
    "cassandra": {
        "ENGINE": "django_cassandra_engine",
        "NAME": os.environ.get("TOLLGATE_CASSANDRA_KEYSPACE", "shop"),
        "HOST": CASSANDRA,
        "OPTIONS": {
            "connection": {"port": int(CASSANDRA_PORT)},
            "replication": {"strategy_class": "NetworkTopologyStrategy", "replication_factor": 1},
        },
    },
}

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ.get("SHOP_REDIS_URL", "redis://127.0.0.1:6390/0"),
    }
}
