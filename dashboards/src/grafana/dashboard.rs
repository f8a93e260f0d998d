//! A dashboard, its variables and links, and where its panels are.

use serde::Serialize;

use super::{FieldConfigSource, Options};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    pub uid: &'static str,
    pub title: String,
    pub description: &'static str,
    pub tags: Vec<&'static str>,
    pub timezone: &'static str,
    pub editable: bool,
    /// 1: one crosshair over all panels.
    pub graph_tooltip: u8,
    pub refresh: &'static str,
    pub schema_version: u32,
    pub time: TimeRange,
    pub timepicker: TimePicker,
    pub templating: Templating,
    pub annotations: Annotations,
    pub links: Vec<Link>,
    pub panels: Vec<AnyPanel>,
}

#[derive(Serialize)]
pub struct TimeRange {
    pub from: &'static str,
    pub to: &'static str,
}

#[derive(Serialize)]
pub struct TimePicker {
    pub refresh_intervals: Vec<&'static str>,
}

#[derive(Serialize)]
pub struct Templating {
    pub list: Vec<TemplateVariable>,
}

#[derive(Serialize)]
pub struct Annotations {
    /// None: what fires is listed on the overview.
    pub list: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateVariable {
    pub name: &'static str,
    pub label: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub query: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datasource: Option<DataSource>,
    pub multi: bool,
    pub include_all: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_value: Option<&'static str>,
    pub current: VariableChoice,
    /// 2: when the time range changes, so that an instance started a minute ago is there.
    pub refresh: u8,
    /// 1: alphabetical.
    pub sort: u8,
    pub hide: u8,
}

#[derive(Serialize)]
pub struct VariableChoice {
    pub text: &'static str,
    pub value: &'static str,
}

#[derive(Serialize)]
pub struct DataSource {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub uid: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    pub title: String,
    pub tooltip: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub url: String,
    pub icon: &'static str,
    pub tags: [&'static str; 0],
    pub as_dropdown: bool,
    pub include_vars: bool,
    pub keep_time: bool,
    pub target_blank: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum AnyPanel {
    Row(RowPanel),
    Panel(Box<Panel>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowPanel {
    pub id: u32,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub title: &'static str,
    pub collapsed: bool,
    pub grid_pos: GridPos,
    pub panels: [(); 0],
}

#[derive(Serialize)]
pub struct GridPos {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Panel {
    pub id: u32,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub grid_pos: GridPos,
    pub datasource: DataSource,
    pub targets: Vec<PrometheusQuery>,
    pub field_config: FieldConfigSource,
    pub options: Options,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transformations: Vec<Transformation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusQuery {
    pub ref_id: String,
    pub datasource: DataSource,
    pub expr: String,
    pub legend_format: &'static str,
    pub editor_mode: &'static str,
    pub format: &'static str,
    pub range: bool,
    pub instant: bool,
}

#[derive(Serialize)]
pub struct Transformation {
    pub id: &'static str,
    pub options: Organize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Organize {
    pub exclude_by_name: serde_json::Map<String, serde_json::Value>,
}
