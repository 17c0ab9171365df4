//! Charts as SVG that keep their text size at any width.
//!
//! Before: estimates with intervals. After: the figures of [`super::page()`]. Places along x are in percent, so a chart is as
//! wide as its column, on a phone too, and nothing needs a script. Colours come from the page's style sheet, by class.

use std::fmt::Write as _;

use super::words::{escaped, number, percent, points};
use crate::stats::Estimate;
use crate::summary::Bin;

/// Colours before they repeat.
const COLOURS: usize = 8;

/// From where to where an axis goes, and where its ticks are. In shares of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    step: f64,
    /// Whether it shows differences, which have a sign and a line at 0.
    signed: bool,
}

impl Axis {
    /// Round bounds around shares, within 0 and 1.
    pub(crate) fn of_shares<'e>(estimates: impl IntoIterator<Item = &'e Estimate>) -> Self {
        Self::around(estimates, 0.0, 1.0, false)
    }

    /// Round bounds around differences and 0.
    pub(crate) fn of_differences<'e>(estimates: impl IntoIterator<Item = &'e Estimate>) -> Self {
        Self::around(estimates, -1.0, 1.0, true)
    }

    fn around<'e>(
        estimates: impl IntoIterator<Item = &'e Estimate>,
        least: f64,
        most: f64,
        signed: bool,
    ) -> Self {
        let ends = estimates.into_iter().flat_map(|e| [e.value, e.interval.low, e.interval.high]);
        let start = if signed { Some((0.0, 0.0)) } else { None };
        let ends = ends.filter(|end| end.is_finite()).fold(start, |range, end| {
            Some(range.map_or((end, end), |(low, high): (f64, f64)| (low.min(end), high.max(end))))
        });
        let (low, high) = ends.unwrap_or((least, most));
        let span = (high - low).max(0.02);
        let steps = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5];
        let step = steps.into_iter().find(|step| span / step <= 5.0).unwrap_or(0.5);
        // a hair of slack, so that a bound on a tick stays there
        let low = ((low / step + 1e-9).floor() * step).max(least);
        let high = ((high / step - 1e-9).ceil() * step).min(most).max(low + step);
        Self { low: if high > most { most - step } else { low }, high: high.min(most), step, signed }
    }

    /// Where a value stands, in percent of the width.
    fn at(&self, value: f64) -> f64 {
        100.0 * ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let ticks = ((self.high - self.low) / self.step + 1e-6).floor() as usize;
        (0..=ticks).map(|tick| self.low + tick as f64 * self.step)
    }

    fn label(&self, value: f64) -> String {
        let text = if self.signed { points(value) } else { percent(value) };
        let text = text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
        if self.signed { text } else { format!("{text} %") }
    }
}

/// One line of a chart of whiskers.
pub(crate) struct Row {
    /// What it is of.
    pub(crate) name: String,
    /// The number in words, to its right.
    pub(crate) value: String,
    /// What is drawn, each with the number of its colour.
    pub(crate) marks: Vec<(usize, Estimate)>,
}

/// Dots with their intervals, a row each, over one axis.
pub(crate) fn whiskers(rows: &[Row], axis: &Axis) -> String {
    let mut html = String::from("<div class=\"chart\">\n");
    // writing to a string does not fail
    for row in rows {
        let height = 16 * row.marks.len().max(1) + 12;
        let _ = write!(
            html,
            "<div class=\"row\"><span class=\"name\">{}</span><svg class=\"track\" height=\"{height}\" aria-hidden=\"true\">",
            escaped(&row.name)
        );
        for tick in axis.ticks() {
            let class = if axis.signed && tick.abs() < 1e-9 { "zero" } else { "grid" };
            let x = axis.at(tick);
            let _ =
                write!(html, "<line class=\"{class}\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"100%\"/>");
        }
        // the name may be taller than the marks, which stay in the middle of the row
        html.push_str("<svg y=\"50%\">");
        for (place, (series, estimate)) in row.marks.iter().enumerate() {
            if estimate.value.is_finite() {
                whisker(
                    &mut html,
                    estimate,
                    axis,
                    16 * place as i64 - 8 * (row.marks.len() as i64 - 1),
                    *series,
                );
            }
        }
        let _ = writeln!(html, "</svg></svg><span class=\"value\">{}</span></div>", escaped(&row.value));
    }
    html.push_str(
        "<div class=\"row axis\" aria-hidden=\"true\"><span></span><svg class=\"track\" height=\"20\">",
    );
    for tick in axis.ticks() {
        let _ = write!(html, "<text x=\"{:.2}%\" y=\"14\">{}</text>", axis.at(tick), axis.label(tick));
    }
    html.push_str("</svg><span></span></div>\n</div>\n");
    html
}

fn whisker(html: &mut String, estimate: &Estimate, axis: &Axis, y: i64, series: usize) {
    let (low, high) = (axis.at(estimate.interval.low), axis.at(estimate.interval.high));
    let colour = series % COLOURS;
    // writing to a string does not fail
    let _ = write!(
        html,
        "<g class=\"s{colour}\"><line x1=\"{low:.2}%\" x2=\"{high:.2}%\" y1=\"{y}\" y2=\"{y}\"/>"
    );
    for end in [low, high] {
        let (top, bottom) = (y - 5, y + 5);
        let _ = write!(
            html,
            "<line class=\"end\" x1=\"{end:.2}%\" x2=\"{end:.2}%\" y1=\"{top}\" y2=\"{bottom}\"/>"
        );
    }
    let _ = write!(html, "<circle cx=\"{:.2}%\" cy=\"{y}\" r=\"5\"/></g>", axis.at(estimate.value));
}

/// A figure at several k.
pub(crate) struct Curve {
    /// The number of its colour.
    pub(crate) series: usize,
    /// Each k with its figure, k rising.
    pub(crate) points: Vec<(usize, Estimate)>,
}

/// Figures over k, doubling from mark to mark, with bands for their intervals where those are few enough to see.
pub(crate) fn curves(curves: &[Curve], axis: &Axis) -> String {
    let most = curves.iter().flat_map(|c| c.points.last()).map(|(k, _)| *k).max().unwrap_or(1).max(2);
    let x = |k: usize| 100.0 * (k.max(1) as f64).log2() / (most as f64).log2();
    let y = |value: f64| 100.0 - axis.at(value);
    let mut svg = String::from("<svg class=\"plot\" height=\"220\" aria-hidden=\"true\">");
    // writing to a string does not fail
    for tick in axis.ticks() {
        let (y, label) = (y(tick), axis.label(tick));
        let _ = write!(svg, "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{y:.2}%\" y2=\"{y:.2}%\"/>");
        let _ = write!(svg, "<text class=\"left\" x=\"-8\" y=\"{y:.2}%\" dy=\"4\">{label}</text>");
    }
    let mut ks: Vec<usize> = curves.iter().flat_map(|c| c.points.iter().map(|(k, _)| *k)).collect();
    ks.sort_unstable();
    ks.dedup();
    let mut last = f64::INFINITY;
    for k in ks.iter().rev() {
        // what would run into its neighbour is left out
        if last - x(*k) > 7.0 {
            last = x(*k);
            let _ = write!(svg, "<text x=\"{last:.2}%\" y=\"100%\" dy=\"18\">{k}</text>");
        }
    }
    svg.push_str("<svg width=\"100%\" height=\"100%\" viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\">");
    for curve in curves {
        let colour = curve.series % COLOURS;
        let path = |height: &dyn Fn(&Estimate) -> f64| -> Vec<String> {
            let finite = curve.points.iter().filter(|(_, e)| height(e).is_finite());
            finite.map(|(k, e)| format!("{:.2},{:.2}", x(*k), y(height(e)))).collect()
        };
        if curves.len() <= 3 {
            let mut band = path(&|e| e.interval.low);
            band.extend(path(&|e| e.interval.high).into_iter().rev());
            let _ = write!(svg, "<polygon class=\"s{colour} band\" points=\"{}\"/>", band.join(" "));
        }
        let _ = write!(svg, "<polyline class=\"s{colour}\" points=\"{}\"/>", path(&|e| e.value).join(" "));
    }
    svg.push_str("</svg>");
    for curve in curves {
        let _ = write!(svg, "<g class=\"s{}\">", curve.series % COLOURS);
        for (k, estimate) in curve.points.iter().filter(|(_, e)| e.value.is_finite()) {
            let _ = write!(svg, "<circle cx=\"{:.2}%\" cy=\"{:.2}%\" r=\"3.5\"/>", x(*k), y(estimate.value));
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Samples by length: right ones below, others above them. `longest` is where the axis ends and `budget` the most tokens
/// that a completion may have, marked if it is in sight.
pub(crate) fn histogram(bins: &[Bin], longest: usize, budget: usize) -> String {
    let width = bins.get(1).map_or(1, |bin| bin.from - bins[0].from).max(1);
    let end = longest.max(bins.last().map_or(0, |bin| bin.from + width)).max(1);
    let x = |tokens: usize| 100.0 * tokens as f64 / end as f64;
    let most = bins.iter().map(|bin| bin.right + bin.other).max().unwrap_or(0).max(1);
    let tall = |n: usize| 100.0 * n as f64 / most as f64;
    let mut svg = String::from("<svg class=\"plot short\" height=\"130\" aria-hidden=\"true\">");
    // writing to a string does not fail
    for (share, label) in [(0.0, number(most)), (100.0, "0".into())] {
        let _ = write!(svg, "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{share}%\" y2=\"{share}%\"/>");
        let _ = write!(svg, "<text class=\"left\" x=\"-8\" y=\"{share}%\" dy=\"4\">{label}</text>");
    }
    for bin in bins {
        let (left, wide) = (x(bin.from), x(width) * 0.9);
        let mut below = 0.0;
        for (class, n) in [("right", bin.right), ("other", bin.other)] {
            let (height, top) = (tall(n), 100.0 - below - tall(n));
            if n > 0 {
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{left:.2}%\" y=\"{top:.2}%\" width=\"{wide:.2}%\" height=\"{height:.2}%\"/>"
                );
            }
            below += height;
        }
    }
    let step = round_step(end);
    for tick in (0..=end / step).map(|tick| tick * step) {
        let _ = write!(svg, "<text x=\"{:.2}%\" y=\"100%\" dy=\"18\">{}</text>", x(tick), number(tick));
    }
    if budget <= end {
        let x = x(budget);
        let _ = write!(svg, "<line class=\"budget\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"-6\" y2=\"100%\"/>");
    }
    svg.push_str("</svg>\n");
    svg
}

/// The least of 1, 2, 5, 10, 20 … that makes at most four steps.
fn round_step(end: usize) -> usize {
    let scales = std::iter::successors(Some(1usize), |scale| scale.checked_mul(10));
    scales.flat_map(|scale| [1, 2, 5].map(|step| step * scale)).find(|step| end / step <= 4).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Interval, Method};

    fn estimate(low: f64, value: f64, high: f64) -> Estimate {
        Estimate { value, interval: Interval { low, high }, method: Method::Wilson }
    }

    #[test]
    fn an_axis_holds_every_interval_and_ends_on_ticks() {
        for (low, high) in
            [(0.0, 0.0), (1.0, 1.0), (0.512, 0.534), (0.0, 1.0), (0.3, 0.3), (0.97, 1.0), (0.5, 0.6)]
        {
            let axis = Axis::of_shares(&[estimate(low, (low + high) / 2.0, high)]);
            assert!(axis.low <= low && high <= axis.high, "{low} to {high}: {axis:?}");
            assert!(axis.low >= 0.0 && axis.high <= 1.0 && axis.low < axis.high, "{axis:?}");
            let ticks: Vec<f64> = axis.ticks().collect();
            assert!((2..=7).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
            assert!((ticks[ticks.len() - 1] - axis.high).abs() < 1e-9, "{axis:?}");
        }
        let axis = Axis::of_differences(&[estimate(0.011, 0.052, 0.093)]);
        assert!(axis.ticks().any(|tick| tick.abs() < 1e-12), "{axis:?}");
    }

    #[test]
    fn what_is_not_a_number_is_not_drawn() {
        let odd = estimate(f64::NAN, f64::NAN, f64::NAN);
        let axis = Axis::of_shares([&odd]);
        let row = Row { name: "a".into(), value: "–".into(), marks: vec![(0, odd)] };
        let curve = Curve { series: 9, points: vec![(1, odd), (2, estimate(0.1, 0.2, f64::NAN))] };
        for svg in [whiskers(&[row], &axis), curves(&[curve], &axis), histogram(&[], 0, 0)] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn bars_stand_on_each_other_and_fill_the_highest_bin() {
        let bins = [Bin { from: 0, right: 1, other: 1 }, Bin { from: 50, right: 3, other: 1 }];
        let svg = histogram(&bins, 100, 100);
        assert!(
            svg.contains("class=\"right\" x=\"50.00%\" y=\"25.00%\" width=\"45.00%\" height=\"75.00%\""),
            "{svg}"
        );
        assert!(
            svg.contains("class=\"other\" x=\"50.00%\" y=\"0.00%\" width=\"45.00%\" height=\"25.00%\""),
            "{svg}"
        );
        assert!(svg.contains("class=\"budget\" x1=\"100.00%\""), "{svg}");
        assert!(!histogram(&bins, 100, 101).contains("budget"), "out of sight");
    }
}
