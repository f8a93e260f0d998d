//! A picture of a dashboard as it is right now: its numbers and courses over time, drawn from the panels' own queries,
//! for people who have no Grafana yet. Tables, bars and tiles are left out.

mod prometheus;
mod scale;

use std::fmt::Write;
use std::io;

use crate::board::{Board, Row};
use crate::panel::{Color, Levels, Panel, Shape};
use crate::queries::fill;
use prometheus::Line;
use scale::{Axis, text};

pub use prometheus::Prometheus;

const WIDTH: f64 = 1240.0;
const MARGIN: f64 = 20.0;
const GAP: f64 = 12.0;
const STAT_HEIGHT: f64 = 92.0;
const GRAPH_HEIGHT: f64 = 240.0;
/// What a graph's lines keep from the edges of its panel: left, top, right, bottom.
const INSIDE: (f64, f64, f64, f64) = (58.0, 40.0, 14.0, 46.0);
/// Colours of lines that have none of their own, in Grafana's order.
const PALETTE: [Color; 5] = [Color::Green, Color::Yellow, Color::Blue, Color::Orange, Color::Red];

/// Light and dark as the reader's system has it.
const STYLE: &str = "\
    text{font-family:Inter,Roboto,Helvetica,Arial,sans-serif;fill:#1f2328}\
    .bg{fill:#f4f5f5}.card{fill:#fff;stroke:#d8dbde}.grid{stroke:#e3e6e9}.dim{fill:#5b636b}\
    .green{--c:#1a7f37}.yellow{--c:#a67c00}.orange{--c:#c4530b}.red{--c:#cf222e}.blue{--c:#1f60c4}.purple{--c:#8250df}\
    path{stroke:var(--c);fill:none;stroke-width:1.8;stroke-linejoin:round}.value,.dot{fill:var(--c)}\
    .level{stroke:var(--c);stroke-dasharray:6 5}\
    @media(prefers-color-scheme:dark){text{fill:#d8d9da}.bg{fill:#111217}.card{fill:#181b1f;stroke:#2c3036}\
    .grid{stroke:#2a2e34}.dim{fill:#9da5b0}\
    .green{--c:#73bf69}.yellow{--c:#f2cc0c}.orange{--c:#ff9830}.red{--c:#f2495c}.blue{--c:#6e9fff}.purple{--c:#b877d9}}";

/// Draws a dashboard as SVG.
///
/// # Errors
/// When Prometheus does not answer a query.
pub fn draw(board: &Board, prometheus: &Prometheus) -> io::Result<String> {
    let mut body = String::new();
    let mut y = MARGIN + 34.0;
    for row in &board.rows {
        let panels: Vec<&Panel> =
            row.panels.iter().filter(|panel| matches!(panel.shape, Shape::Stat | Shape::Series)).collect();
        if panels.is_empty() {
            continue;
        }
        y = draw_row(&mut body, row, &panels, prometheus, y)?;
    }
    let height = y + MARGIN - GAP;
    let minutes = (prometheus.to - prometheus.from) / 60.0;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\
         <title>Tollgate / {title}</title><style>{STYLE}</style>\n\
         <rect class=\"bg\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n\
         <text x=\"{MARGIN}\" y=\"38\" font-size=\"19\" font-weight=\"600\">Tollgate / {title}</text>\
         <text class=\"dim\" x=\"{right}\" y=\"38\" font-size=\"13\" text-anchor=\"end\">last {minutes:.0} minutes</text>\n\
         {body}</svg>\n",
        title = board.title,
        right = WIDTH - MARGIN,
    ))
}

/// Draws a row of panels of equal width; where the next row begins.
fn draw_row(body: &mut String, row: &Row, panels: &[&Panel], prometheus: &Prometheus, mut y: f64) -> io::Result<f64> {
    if !row.title.is_empty() {
        y += 20.0;
        put(
            body,
            format_args!("<text x=\"{MARGIN}\" y=\"{y}\" font-size=\"14\" font-weight=\"600\">{}</text>\n", row.title),
        );
        y += 10.0;
    }
    let is_graph = panels.iter().any(|panel| panel.shape == Shape::Series);
    let height = if is_graph { GRAPH_HEIGHT } else { STAT_HEIGHT };
    let count = f64::from(u32::try_from(panels.len()).unwrap_or(1));
    let width = (WIDTH - 2.0 * MARGIN - (count - 1.0) * GAP) / count;
    let mut x = MARGIN;
    for panel in panels {
        let lines = ask(panel, prometheus)?;
        put(body, format_args!("<g transform=\"translate({x:.1} {y:.1})\"><title>{}</title>", xml(panel.description)));
        put(body, format_args!("<rect class=\"card\" width=\"{width:.1}\" height=\"{height}\" rx=\"4\"/>"));
        put(
            body,
            format_args!("<text x=\"12\" y=\"22\" font-size=\"13\" font-weight=\"500\">{}</text>", xml(panel.title)),
        );
        match panel.shape {
            Shape::Stat => draw_stat(body, panel, &lines, width),
            _ => draw_graph(body, panel, &lines, prometheus, width),
        }
        body.push_str("</g>\n");
        x += width + GAP;
    }
    Ok(y + height + GAP)
}

fn ask(panel: &Panel, prometheus: &Prometheus) -> io::Result<Vec<Line>> {
    let range = format!("{:.0}s", prometheus.to - prometheus.from);
    let mut lines = Vec::new();
    for target in &panel.targets {
        lines.extend(prometheus.lines(&fill(&target.expression, "1m", &range), target.legend)?);
    }
    Ok(lines)
}

fn draw_stat(body: &mut String, panel: &Panel, lines: &[Line], width: f64) {
    let last = lines.first().and_then(|line| line.points.last());
    let (color, value) = match last {
        Some((_, value)) => (color_of(panel.levels, *value), text(*value, panel.unit)),
        None => (class(Color::Blue), panel.no_value.to_owned()),
    };
    put(
        body,
        format_args!(
            "<text class=\"value {color}\" x=\"{:.1}\" y=\"68\" font-size=\"32\" font-weight=\"600\" \
             text-anchor=\"middle\">{}</text>",
            width / 2.0,
            xml(&value)
        ),
    );
}

fn draw_graph(body: &mut String, panel: &Panel, lines: &[Line], prometheus: &Prometheus, width: f64) {
    let (left, top, right, bottom) = INSIDE;
    let (plot_width, plot_height) = (width - left - right, GRAPH_HEIGHT - top - bottom);
    let axis = Axis::over(lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value), panel.logarithmic);
    let y_of = |value: f64| top + plot_height * (1.0 - axis.place(value));
    let x_of = |at: f64| left + plot_width * (at - prometheus.from) / (prometheus.to - prometheus.from);
    for tick in axis.ticks() {
        let y = y_of(tick);
        put(
            body,
            format_args!(
                "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                width - right
            ),
        );
        put(
            body,
            format_args!(
                "<text class=\"dim\" x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"end\">{}</text>",
                left - 7.0,
                y + 4.0,
                text(tick, panel.unit)
            ),
        );
    }
    for (color, from) in panel.levels.steps() {
        let Some(from) = from.filter(|from| axis.place(*from) < 1.0) else { continue };
        let (class, y) = (class(color), y_of(from));
        put(
            body,
            format_args!(
                "<line class=\"level {class}\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                width - right
            ),
        );
    }
    let mut legend_x = left;
    let legend_y = GRAPH_HEIGHT - 14.0;
    for (index, line) in lines.iter().enumerate() {
        let own = panel.colors.iter().find(|(name, _)| *name == line.name).map(|(_, color)| *color);
        let class = class(own.unwrap_or(PALETTE[index % PALETTE.len()]));
        let mut path = String::new();
        for (index, (at, value)) in line.points.iter().enumerate() {
            let step = if index == 0 { 'M' } else { 'L' };
            put(&mut path, format_args!("{step}{:.1} {:.1}", x_of(*at), y_of(*value)));
        }
        put(body, format_args!("<path class=\"{class}\" d=\"{path}\"/>"));
        put(
            body,
            format_args!("<circle class=\"dot {class}\" cx=\"{legend_x:.1}\" cy=\"{:.1}\" r=\"4\"/>", legend_y - 4.0),
        );
        put(
            body,
            format_args!(
                "<text x=\"{:.1}\" y=\"{legend_y}\" font-size=\"12\">{}</text>",
                legend_x + 9.0,
                xml(&line.name)
            ),
        );
        legend_x += 30.0 + 7.0 * f64::from(u32::try_from(line.name.chars().count()).unwrap_or(0));
    }
    if lines.iter().all(|line| line.points.is_empty()) {
        let middle = left + plot_width / 2.0;
        let y = top + plot_height / 2.0;
        put(
            body,
            format_args!(
                "<text class=\"dim\" x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
                panel.no_value
            ),
        );
    }
}

fn color_of(levels: Levels, value: f64) -> &'static str {
    let mut reached = levels.steps().into_iter().filter(|(_, from)| from.is_none_or(|from| value >= from));
    class(reached.next_back().map_or(Color::Blue, |(color, _)| color))
}

fn class(color: Color) -> &'static str {
    match color {
        Color::Green => "green",
        Color::Yellow => "yellow",
        Color::Orange => "orange",
        Color::Red => "red",
        Color::Blue => "blue",
        Color::Purple => "purple",
    }
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Writing into a string cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _written = out.write_fmt(text);
}
