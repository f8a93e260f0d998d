//! Every question that the dashboards ask, so that a test can ask them all.

use crate::all;

/// One question of a panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The dashboard's uid.
    pub dashboard: &'static str,
    /// The panel's title.
    pub panel: &'static str,
    /// PromQL with Grafana's variables in it.
    pub expression: String,
    /// Why there may be no answer although everything works.
    pub may_be_empty: Option<&'static str>,
}

impl Query {
    /// The expression as Grafana would send it: all values of each variable, rates over `rate_interval` (at least four
    /// scrapes of the slowest target) and sums over `range`; both are durations such as `1m`.
    #[must_use]
    pub fn filled(&self, rate_interval: &str, range: &str) -> String {
        fill(&self.expression, rate_interval, range)
    }
}

/// [`Query::filled`] of any expression.
pub(crate) fn fill(expression: &str, rate_interval: &str, range: &str) -> String {
    let mut filled = expression.replace("$__rate_interval", rate_interval).replace("$__range", range);
    for variable in all().iter().flat_map(|board| &board.variables) {
        filled = filled.replace(&format!("${}", variable.name), ".*");
    }
    filled
}

/// Every question of every panel of every dashboard. The expressions of alerts are in `rules.yml`; a live Prometheus
/// lists them at `/api/v1/rules`.
#[must_use]
pub fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for board in all() {
        for panel in board.panels() {
            queries.extend(panel.targets.iter().map(|target| Query {
                dashboard: board.uid,
                panel: panel.title,
                expression: target.expression.clone(),
                may_be_empty: panel.may_be_empty,
            }));
        }
    }
    queries
}
