//! What each kind of panel can be told.

use serde::Serialize;

#[derive(Serialize)]
#[serde(untagged)]
pub enum Options {
    Stat(StatOptions),
    Series(SeriesOptions),
    Bars(BarsOptions),
    Table(TableOptions),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatOptions {
    pub color_mode: &'static str,
    pub graph_mode: &'static str,
    pub justify_mode: &'static str,
    pub orientation: &'static str,
    pub percent_change_color_mode: &'static str,
    pub reduce_options: Reduce,
    pub show_percent_change: bool,
    pub text_mode: &'static str,
    pub wide_layout: bool,
}

#[derive(Serialize)]
pub struct Reduce {
    pub calcs: [&'static str; 1],
    pub fields: &'static str,
    pub values: bool,
}

#[derive(Serialize)]
pub struct SeriesOptions {
    pub legend: Legend,
    pub tooltip: Tooltip,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Legend {
    pub calcs: Vec<&'static str>,
    pub display_mode: &'static str,
    pub placement: &'static str,
    pub show_legend: bool,
}

#[derive(Serialize)]
pub struct Tooltip {
    pub mode: &'static str,
    pub sort: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BarsOptions {
    pub display_mode: &'static str,
    pub legend: Legend,
    pub max_viz_height: u32,
    pub min_viz_height: u32,
    pub min_viz_width: u32,
    pub name_placement: &'static str,
    pub orientation: &'static str,
    pub reduce_options: Reduce,
    pub show_unfilled: bool,
    pub sizing: &'static str,
    pub value_mode: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableOptions {
    pub cell_height: &'static str,
    pub frame_index: u32,
    pub show_header: bool,
}
