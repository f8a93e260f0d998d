//! From boards to Grafana's JSON.

use std::collections::BTreeMap;

use crate::board::{Board, Row, Variable};
use crate::boards::all;
use crate::grafana::{
    Annotations, AnyPanel, BarsOptions, Cell, CellOptions, Custom, Dashboard, DataSource, FieldColor, FieldConfig,
    FieldConfigSource, Graph, GridPos, Legend, Link, MappedValue, Matcher, Options, Organize, Override, Panel,
    PrometheusQuery, Property, Reduce, RowPanel, Scale, SeriesOptions, Stacking, StatOptions, TableOptions,
    TemplateVariable, Templating, Threshold, Thresholds, ThresholdsStyle, TimePicker, TimeRange, Tooltip,
    Transformation, ValueMap, VariableChoice,
};
use crate::panel::{self, Color, Levels, Shape, Unit};

/// The width of a dashboard.
const COLUMNS: u32 = 24;

/// The file of a dashboard.
pub fn json(board: &Board) -> String {
    // Serializing structs of texts and numbers into memory cannot fail.
    let mut text = serde_json::to_string_pretty(&dashboard(board)).unwrap_or_default();
    text.push('\n');
    text
}

fn dashboard(board: &Board) -> Dashboard {
    Dashboard {
        uid: board.uid,
        title: format!("Tollgate / {}", board.title),
        description: board.description,
        tags: vec!["tollgate"],
        timezone: "browser",
        editable: false,
        graph_tooltip: 1,
        refresh: "10s",
        schema_version: 41,
        time: TimeRange { from: "now-1h", to: "now" },
        timepicker: TimePicker { refresh_intervals: vec!["5s", "10s", "30s", "1m", "5m", "15m"] },
        templating: Templating {
            list: std::iter::once(data_source_variable()).chain(board.variables.iter().map(variable)).collect(),
        },
        annotations: Annotations { list: [] },
        links: all().iter().map(|other| link(other.title, other.description, other.uid)).collect(),
        panels: panels(&board.rows),
    }
}

fn data_source_variable() -> TemplateVariable {
    TemplateVariable {
        name: "datasource",
        label: "Data source",
        kind: "datasource",
        query: "prometheus",
        datasource: None,
        multi: false,
        include_all: false,
        all_value: None,
        current: VariableChoice { text: "default", value: "default" },
        refresh: 1,
        sort: 0,
        hide: 0,
    }
}

fn variable(variable: &Variable) -> TemplateVariable {
    TemplateVariable {
        name: variable.name,
        label: variable.label,
        kind: "query",
        query: variable.query,
        datasource: Some(data_source()),
        multi: true,
        include_all: true,
        all_value: variable.all,
        current: VariableChoice { text: "All", value: "$__all" },
        refresh: 2,
        sort: 1,
        hide: 0,
    }
}

fn data_source() -> DataSource {
    DataSource { kind: "prometheus", uid: "${datasource}" }
}

/// Keeps the time and the data source, but not an instance, which the other dashboard does not have.
fn link(title: &str, tooltip: &str, uid: &str) -> Link {
    Link {
        title: title.to_owned(),
        tooltip: tooltip.to_owned(),
        kind: "link",
        url: format!("/d/{uid}?${{datasource:queryparam}}"),
        icon: "dashboard",
        tags: [],
        as_dropdown: false,
        include_vars: false,
        keep_time: true,
        target_blank: false,
    }
}

fn panels(rows: &[Row]) -> Vec<AnyPanel> {
    let mut panels = Vec::new();
    let mut ids = 1..;
    let mut next_id = || ids.next().unwrap_or_default();
    let mut y = 0;
    for row in rows {
        if !row.title.is_empty() {
            let grid_pos = GridPos { x: 0, y, w: COLUMNS, h: 1 };
            let (id, title) = (next_id(), row.title);
            panels.push(AnyPanel::Row(RowPanel { id, kind: "row", title, collapsed: false, grid_pos, panels: [] }));
            y += 1;
        }
        let mut x = 0;
        for (panel, w) in row.panels.iter().zip(widths(&row.panels)) {
            panels.push(AnyPanel::Panel(Box::new(one(panel, next_id(), GridPos { x, y, w, h: row.height }))));
            x += w;
        }
        y += row.height;
    }
    panels
}

/// Those without a width of their own share what is left, the last one takes the rest.
fn widths(panels: &[panel::Panel]) -> Vec<u32> {
    let given: u32 = panels.iter().filter_map(|panel| panel.width).sum();
    let others = u32::try_from(panels.iter().filter(|panel| panel.width.is_none()).count()).unwrap_or(COLUMNS);
    let share = COLUMNS.saturating_sub(given).checked_div(others).unwrap_or_default();
    let mut widths: Vec<u32> = panels.iter().map(|panel| panel.width.unwrap_or(share)).collect();
    let used: u32 = widths.iter().sum();
    if let Some(last) = widths.last_mut() {
        *last += COLUMNS.saturating_sub(used);
    }
    widths
}

fn one(panel: &panel::Panel, id: u32, grid_pos: GridPos) -> Panel {
    Panel {
        id,
        kind: match panel.shape {
            Shape::Stat | Shape::Tiles => "stat",
            Shape::Series | Shape::Stack => "timeseries",
            Shape::Bars => "bargauge",
            Shape::Table => "table",
        },
        title: panel.title,
        description: panel.description,
        grid_pos,
        datasource: data_source(),
        targets: targets(panel),
        field_config: FieldConfigSource { defaults: fields(panel), overrides: overrides(panel) },
        options: options(panel),
        transformations: transformations(panel),
        links: panel.link.iter().map(|uid| link("Details", "", uid)).collect(),
    }
}

fn targets(panel: &panel::Panel) -> Vec<PrometheusQuery> {
    let letters = ('A'..='Z').map(String::from);
    let query = |(target, ref_id): (&panel::Target, String)| PrometheusQuery {
        ref_id,
        datasource: data_source(),
        expr: target.expression.clone(),
        legend_format: target.legend,
        editor_mode: "code",
        format: if panel.shape == Shape::Table { "table" } else { "time_series" },
        range: !panel.as_it_is_now,
        instant: panel.as_it_is_now,
    };
    panel.targets.iter().zip(letters).map(query).collect()
}

fn fields(panel: &panel::Panel) -> FieldConfig {
    let steps = panel.levels.steps().into_iter().map(|(color, value)| Threshold { color, value }).collect();
    let is_graph = matches!(panel.shape, Shape::Series | Shape::Stack);
    let custom = match panel.shape {
        Shape::Series | Shape::Stack => Some(Custom::Graph(Box::new(graph(panel)))),
        Shape::Table => {
            Some(Custom::Cell(Cell { align: "auto", cell_options: CellOptions { kind: "auto" }, inspect: false }))
        }
        Shape::Stat | Shape::Tiles | Shape::Bars => None,
    };
    FieldConfig {
        unit: if panel.unit == Unit::Health { "short" } else { panel.unit.id() },
        no_value: panel.no_value,
        min: (panel.shape == Shape::Bars).then_some(0.0),
        max: (panel.unit == Unit::Share && panel.shape == Shape::Bars).then_some(1.0),
        color: FieldColor { mode: if is_graph { "palette-classic" } else { "thresholds" }, fixed_color: None },
        thresholds: Thresholds { mode: "absolute", steps },
        mappings: if panel.unit == Unit::Health { vec![up_or_down()] } else { Vec::new() },
        custom,
    }
}

fn up_or_down() -> ValueMap {
    let options = BTreeMap::from([
        ("0", MappedValue { text: "down", color: Color::Red, index: 0 }),
        ("1", MappedValue { text: "up", color: Color::Green, index: 1 }),
    ]);
    ValueMap { kind: "value", options }
}

fn graph(panel: &panel::Panel) -> Graph {
    let is_stack = panel.shape == Shape::Stack;
    Graph {
        draw_style: "line",
        line_interpolation: "linear",
        line_width: if is_stack { 1 } else { 2 },
        fill_opacity: if is_stack { 40 } else { 10 },
        gradient_mode: "opacity",
        show_points: "auto",
        span_nulls: 60_000,
        axis_soft_min: (!panel.logarithmic).then_some(0.0),
        scale_distribution: if panel.logarithmic {
            Scale { kind: "log", log: Some(10) }
        } else {
            Scale { kind: "linear", log: None }
        },
        stacking: Stacking { mode: if is_stack { "normal" } else { "none" }, group: "A" },
        thresholds_style: ThresholdsStyle { mode: if panel.levels == Levels::None { "off" } else { "dashed" } },
    }
}

fn overrides(panel: &panel::Panel) -> Vec<Override> {
    let fixed = |color| FieldColor { mode: "fixed", fixed_color: Some(color) };
    panel
        .colors
        .iter()
        .map(|(name, color)| Override {
            matcher: Matcher { id: "byName", options: name },
            properties: vec![Property { id: "color", value: fixed(*color) }],
        })
        .collect()
}

fn options(panel: &panel::Panel) -> Options {
    let reduce_options = Reduce { calcs: ["lastNotNull"], fields: "", values: false };
    match panel.shape {
        Shape::Stat | Shape::Tiles => Options::Stat(StatOptions {
            color_mode: if panel.shape == Shape::Tiles { "background" } else { "value" },
            graph_mode: if panel.as_it_is_now { "none" } else { "area" },
            justify_mode: "auto",
            orientation: if panel.shape == Shape::Tiles { "vertical" } else { "auto" },
            percent_change_color_mode: "standard",
            reduce_options,
            show_percent_change: false,
            text_mode: if panel.shape == Shape::Tiles { "value_and_name" } else { "auto" },
            wide_layout: true,
        }),
        Shape::Series | Shape::Stack => Options::Series(SeriesOptions {
            legend: Legend {
                calcs: vec!["lastNotNull", "max"],
                display_mode: "table",
                placement: "bottom",
                show_legend: true,
            },
            tooltip: Tooltip { mode: "multi", sort: "desc" },
        }),
        Shape::Bars => Options::Bars(BarsOptions {
            display_mode: "gradient",
            legend: Legend { calcs: Vec::new(), display_mode: "list", placement: "bottom", show_legend: false },
            max_viz_height: 40,
            min_viz_height: 16,
            min_viz_width: 8,
            name_placement: "left",
            orientation: "horizontal",
            reduce_options,
            show_unfilled: true,
            sizing: "auto",
            value_mode: "color",
        }),
        Shape::Table => Options::Table(TableOptions { cell_height: "sm", frame_index: 0, show_header: true }),
    }
}

fn transformations(panel: &panel::Panel) -> Vec<Transformation> {
    let hidden = panel.hidden_columns.iter().map(|name| ((*name).to_owned(), true.into()));
    let exclude_by_name: serde_json::Map<_, _> = hidden.collect();
    if exclude_by_name.is_empty() {
        return Vec::new();
    }
    vec![Transformation { id: "organize", options: Organize { exclude_by_name } }]
}
