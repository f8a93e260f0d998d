//! How values are written and coloured.

use serde::Serialize;

use crate::panel::Color;

#[derive(Serialize)]
pub struct FieldConfigSource {
    pub defaults: FieldConfig,
    pub overrides: Vec<Override>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldConfig {
    pub unit: &'static str,
    pub no_value: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    pub color: FieldColor,
    pub thresholds: Thresholds,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<ValueMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Custom>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldColor {
    pub mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed_color: Option<Color>,
}

#[derive(Serialize)]
pub struct Thresholds {
    pub mode: &'static str,
    pub steps: Vec<Threshold>,
}

#[derive(Serialize)]
pub struct Threshold {
    pub color: Color,
    pub value: Option<f64>,
}

#[derive(Serialize)]
pub struct ValueMap {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub options: std::collections::BTreeMap<&'static str, MappedValue>,
}

#[derive(Serialize)]
pub struct MappedValue {
    pub text: &'static str,
    pub color: Color,
    pub index: u32,
}

#[derive(Serialize)]
pub struct Override {
    pub matcher: Matcher,
    pub properties: Vec<Property>,
}

#[derive(Serialize)]
pub struct Matcher {
    pub id: &'static str,
    pub options: &'static str,
}

#[derive(Serialize)]
pub struct Property {
    pub id: &'static str,
    pub value: FieldColor,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum Custom {
    Graph(Box<Graph>),
    Cell(Cell),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Graph {
    pub draw_style: &'static str,
    pub line_interpolation: &'static str,
    pub line_width: u32,
    pub fill_opacity: u32,
    pub gradient_mode: &'static str,
    pub show_points: &'static str,
    /// Milliseconds: a missed scrape is no gap.
    pub span_nulls: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axis_soft_min: Option<f64>,
    pub scale_distribution: Scale,
    pub stacking: Stacking,
    pub thresholds_style: ThresholdsStyle,
}

#[derive(Serialize)]
pub struct Scale {
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<u32>,
}

#[derive(Serialize)]
pub struct Stacking {
    pub mode: &'static str,
    pub group: &'static str,
}

#[derive(Serialize)]
pub struct ThresholdsStyle {
    pub mode: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    pub align: &'static str,
    pub cell_options: CellOptions,
    pub inspect: bool,
}

#[derive(Serialize)]
pub struct CellOptions {
    #[serde(rename = "type")]
    pub kind: &'static str,
}
