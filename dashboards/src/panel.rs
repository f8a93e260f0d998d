//! A panel: what it asks, and how it shows the answer.

use serde::Serialize;

/// What a number means; Grafana's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain count.
    Count,
    /// A share of one, shown as percent.
    Share,
    /// A plain factor.
    Factor,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Payment events a second.
    EventsPerSecond,
    /// Requests a second.
    RequestsPerSecond,
    /// Rows a second.
    RowsPerSecond,
    /// Messages (frames) a second.
    MessagesPerSecond,
    /// Anything else a second.
    PerSecond,
    /// Up or down.
    Health,
}

impl Unit {
    /// Grafana's id of the unit.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Count | Self::Factor => "short",
            Self::Share => "percentunit",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "binBps",
            Self::EventsPerSecond => "eps",
            Self::RequestsPerSecond => "reqps",
            Self::RowsPerSecond => "rowsps",
            Self::MessagesPerSecond => "mps",
            Self::PerSecond => "ops",
            Self::Health => "bool_on_off",
        }
    }
}

/// Grafana's named colours, so that they fit its light and its dark theme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Color {
    /// As it should be.
    Green,
    /// Worth a look.
    Yellow,
    /// Getting late.
    Orange,
    /// Wrong.
    Red,
    /// Neither good nor bad.
    Blue,
    /// Neither good nor bad, beside blue.
    Purple,
}

/// From which values on a number is worth a look, or wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Levels {
    /// No value is good or bad by itself.
    None,
    /// Larger is worse.
    Above(f64, f64),
    /// Smaller is worse.
    Below(f64, f64),
    /// Times to 2xx: the objective, and when Razorpay and Adyen give up.
    Deadlines,
    /// Burn rates of an error budget: what is allowed, and what the two fast alerts fire at.
    BurnRates,
}

impl Levels {
    /// The colours with the values they begin at.
    #[must_use]
    pub fn steps(self) -> Vec<(Color, Option<f64>)> {
        use Color::{Blue, Green, Orange, Red, Yellow};
        match self {
            Self::None => vec![(Blue, None)],
            Self::Above(warning, wrong) => vec![(Green, None), (Yellow, Some(warning)), (Red, Some(wrong))],
            Self::Below(warning, wrong) => vec![(Red, None), (Yellow, Some(wrong)), (Green, Some(warning))],
            Self::Deadlines => vec![(Green, None), (Yellow, Some(1.0)), (Orange, Some(5.0)), (Red, Some(10.0))],
            Self::BurnRates => vec![(Green, None), (Yellow, Some(1.0)), (Orange, Some(6.0)), (Red, Some(14.4))],
        }
    }
}

/// How the answer is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One large number, with its course behind it.
    Stat,
    /// A number for each series, on coloured ground.
    Tiles,
    /// Lines over time.
    Series,
    /// Areas over time that add up.
    Stack,
    /// A bar for each series, its value now.
    Bars,
    /// A row for each series, its labels in columns.
    Table,
}

/// One question of a panel, and the name of each series of its answer.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) legend: &'static str,
    pub(crate) expression: String,
}

/// A panel of a dashboard.
#[derive(Debug, Clone)]
pub struct Panel {
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) shape: Shape,
    pub(crate) unit: Unit,
    pub(crate) targets: Vec<Target>,
    pub(crate) levels: Levels,
    pub(crate) no_value: &'static str,
    pub(crate) colors: Vec<(&'static str, Color)>,
    pub(crate) link: Option<&'static str>,
    pub(crate) hidden_columns: &'static [&'static str],
    pub(crate) logarithmic: bool,
    pub(crate) as_it_is_now: bool,
    pub(crate) width: Option<u32>,
    pub(crate) may_be_empty: Option<&'static str>,
}

impl Panel {
    fn new(shape: Shape, title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self {
            title,
            description,
            shape,
            unit,
            targets: Vec::new(),
            levels: Levels::None,
            no_value: "nothing yet",
            colors: Vec::new(),
            link: None,
            hidden_columns: &[],
            logarithmic: false,
            as_it_is_now: matches!(shape, Shape::Tiles | Shape::Bars | Shape::Table),
            width: None,
            may_be_empty: None,
        }
    }

    /// One large number, with its course behind it.
    #[must_use]
    pub fn stat(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Shape::Stat, title, unit, description)
    }

    /// A number for each series, on coloured ground.
    #[must_use]
    pub fn tiles(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Shape::Tiles, title, unit, description)
    }

    /// Lines over time.
    #[must_use]
    pub fn series(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Shape::Series, title, unit, description)
    }

    /// Areas over time that add up.
    #[must_use]
    pub fn stack(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Shape::Stack, title, unit, description)
    }

    /// A bar for each series, its value now.
    #[must_use]
    pub fn bars(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Shape::Bars, title, unit, description)
    }

    /// A row for each series, its labels in columns but those hidden.
    #[must_use]
    pub fn table(title: &'static str, description: &'static str, hidden_columns: &'static [&'static str]) -> Self {
        Self { hidden_columns, ..Self::new(Shape::Table, title, Unit::Count, description) }
    }

    /// Asks a question; `legend` names each series of the answer, with `{{label}}` for a label's value.
    #[must_use]
    pub fn query(mut self, legend: &'static str, expression: impl Into<String>) -> Self {
        self.targets.push(Target { legend, expression: expression.into() });
        self
    }

    /// From which values on a number is worth a look, or wrong; lines over time show them too.
    #[must_use]
    pub fn levels(mut self, levels: Levels) -> Self {
        self.levels = levels;
        self
    }

    /// What stands there when there is no answer.
    #[must_use]
    pub fn no_value(mut self, text: &'static str) -> Self {
        self.no_value = text;
        self
    }

    /// The colour of the series of this name.
    #[must_use]
    pub fn color(mut self, series: &'static str, color: Color) -> Self {
        self.colors.push((series, color));
        self
    }

    /// The dashboard (its uid) that says more.
    #[must_use]
    pub fn link(mut self, uid: &'static str) -> Self {
        self.link = Some(uid);
        self
    }

    /// Values that differ by orders of magnitude, such as times of fast and slow requests.
    #[must_use]
    pub fn logarithmic(mut self) -> Self {
        self.logarithmic = true;
        self
    }

    /// Asked for once instead of for each moment shown: for sums over long times, which have no course to show.
    #[must_use]
    pub fn as_it_is_now(mut self) -> Self {
        self.as_it_is_now = true;
        self
    }

    /// Its width in 24ths of the dashboard; otherwise the panels of a row share what is left.
    #[must_use]
    pub fn width(mut self, width: u32) -> Self {
        self.width = Some(width);
        self
    }

    /// Why there may be no answer although everything works.
    #[must_use]
    pub fn may_be_empty(mut self, reason: &'static str) -> Self {
        self.may_be_empty = Some(reason);
        self
    }

    /// What stands over it.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.title
    }
}
