//! Curves of runs as one page of HTML.
//!
//! Before: [`super::runs`]. After: a file that opens from a disk.

use std::fmt::Write as _;

use super::curves::{Axis, Curve, Replicas};
use crate::plot::escaped;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
/// Left, right, top and bottom margins of a chart.
const MARGIN: (f64, f64, f64, f64) = (56.0, 16.0, 12.0, 44.0);
/// Colours that people with any colour vision tell apart, on light and on dark.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#777777"];
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #ccc; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --paper: #161616; --line: #444; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem; } figure { margin: 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; } .grid { stroke: var(--line); } .key { display: inline-block; width: 1.5em; height: 3px; vertical-align: middle; margin-right: .4em; }
ul { padding-left: 1.2em; }";

/// The page.
pub(super) fn page(metric: &str, groups: &[Replicas], sentences: &[String]) -> String {
    let mut html = String::new();
    // writing to a string does not fail
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><link rel=\"icon\" href=\"data:,\"><title>Runs compared</title><style>{STYLE}</style></head><body>\n<h1>Runs compared: {}</h1>\n<ul>",
        escaped(metric)
    );
    for (place, group) in groups.iter().enumerate() {
        let runs = if group.runs.len() > 1 { format!(" ({} runs)", group.runs.len()) } else { String::new() };
        let _ = write!(
            html,
            "<li><span class=\"key\" style=\"background:{}\"></span>{}{runs}</li>",
            colour(place),
            escaped(&group.name)
        );
    }
    html.push_str("</ul>\n<div class=\"charts\">");
    for axis in Axis::ALL {
        if let Some(chart) = chart(axis, groups) {
            let _ = write!(html, "<figure><figcaption>by {}</figcaption>{chart}</figure>", axis.name());
        }
    }
    html.push_str("</div>\n<h2>What is shown</h2>\n");
    for sentence in sentences {
        let _ = writeln!(html, "<p>{}</p>", escaped(sentence));
    }
    html.push_str("</body></html>\n");
    html
}

fn colour(place: usize) -> &'static str {
    COLOURS[place % COLOURS.len()]
}

/// Every run's curve; none if nothing was spent on this axis.
fn chart(axis: Axis, groups: &[Replicas]) -> Option<String> {
    let points = || groups.iter().flat_map(|group| &group.curves).flat_map(|Curve(points)| points);
    let end = points().map(|point| point.at(axis)).fold(0.0, f64::max);
    if end <= 0.0 {
        return None;
    }
    let values: Vec<f64> = points().map(|point| point.value).filter(|value| value.is_finite()).collect();
    let (low, high) = (
        values.iter().copied().fold(f64::INFINITY, f64::min),
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    );
    let step = round_step((high - low).max(1e-9) / 4.0);
    let (low, high) =
        ((low / step).floor() * step, ((high / step).ceil() * step).max((low / step).floor() * step + step));
    let (left, right, top, bottom) = MARGIN;
    let x = |spent: f64| left + (WIDTH - left - right) * spent / end;
    let y = |value: f64| HEIGHT - bottom - (HEIGHT - top - bottom) * (value - low) / (high - low);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"values by {}\">",
        axis.name()
    );
    for tick in 0..=((high - low) / step).round() as usize {
        let value = low + tick as f64 * step;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>",
            WIDTH - right,
            y(value),
            left - 6.0,
            y(value) + 4.0,
            trimmed(value)
        );
    }
    let step = round_step(end / 4.0);
    for tick in 0..=(end / step).floor() as usize {
        let spent = tick as f64 * step;
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(spent),
            HEIGHT - bottom + 18.0,
            trimmed(spent)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        (left + WIDTH - right) / 2.0,
        HEIGHT - 6.0,
        axis.name()
    );
    for (place, group) in groups.iter().enumerate() {
        for Curve(points) in &group.curves {
            let path: Vec<String> = points
                .iter()
                .map(|point| format!("{:.1},{:.1}", x(point.at(axis)), y(point.value)))
                .collect();
            let _ = write!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
                path.join(" "),
                colour(place)
            );
        }
    }
    svg.push_str("</svg>");
    Some(svg)
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let scale = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * scale).find(|round| *round >= step * 0.999).unwrap_or(step)
}

/// A number without needless zeros.
fn trimmed(value: f64) -> String {
    if value.abs() >= 1e6 {
        return format!("{} M", trimmed(value / 1e6));
    }
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            [0.3, 1.0, 2.3, 7.0, 0.00012].map(round_step).map(|step| trimmed(step * 1e4)),
            ["5000", "10000", "50000", "100000", "2"]
        );
        assert_eq!(trimmed(2_500_000.0), "2.5 M");
    }
}
