//! A dashboard: rows of panels, and the variables that narrow them down.

use crate::panel::Panel;

/// What a person can choose at the top of a dashboard; queries name it with a dollar sign.
#[derive(Debug, Clone)]
pub struct Variable {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) query: &'static str,
    /// What stands for all values; without it, Grafana lists each.
    pub(crate) all: Option<&'static str>,
}

impl Variable {
    /// The values that Prometheus has for `query`, a `label_values(…)`; all of them at first.
    #[must_use]
    pub fn new(name: &'static str, label: &'static str, query: &'static str) -> Self {
        Self { name, label, query, all: Some(".*") }
    }

    /// "All" are the listed ones alone: there are others that nobody wants to see.
    #[must_use]
    pub fn only_listed(mut self) -> Self {
        self.all = None;
        self
    }
}

/// A row of panels of one height; without a title it goes on with what the row above began.
#[derive(Debug, Clone)]
pub struct Row {
    pub(crate) title: &'static str,
    pub(crate) height: u32,
    pub(crate) panels: Vec<Panel>,
}

impl Row {
    /// Large numbers.
    #[must_use]
    pub fn stats(title: &'static str, panels: impl Into<Vec<Panel>>) -> Self {
        Self { title, height: 5, panels: panels.into() }
    }

    /// Courses over time, bars and tables.
    #[must_use]
    pub fn graphs(title: &'static str, panels: impl Into<Vec<Panel>>) -> Self {
        Self { title, height: 9, panels: panels.into() }
    }
}

/// A dashboard.
#[derive(Debug, Clone)]
pub struct Board {
    pub(crate) uid: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) variables: Vec<Variable>,
    pub(crate) rows: Vec<Row>,
}

impl Board {
    /// Its uid is `tollgate-NAME`, and stays the same for ever: links and bookmarks have it.
    #[must_use]
    pub fn uid(&self) -> &'static str {
        self.uid
    }

    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.json", self.uid.trim_start_matches("tollgate-"))
    }

    /// All panels, from top to bottom.
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }
}
