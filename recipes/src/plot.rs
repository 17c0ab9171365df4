//! Pictures as SVG, which any browser shows.

use std::fmt::Write as _;

use engine::laboratory::{Figure, Findings};

const TEXT: &str = "font-family='sans-serif' font-size='13' fill='#222'";

/// The noise of every estimator with its interval, and of every prompt against its correlation of reward and norm.
pub(crate) fn variance(name: &str, findings: &Findings) -> String {
    let shown: Vec<_> = findings
        .estimators
        .iter()
        .filter(|r| r.estimator != "no baseline" && r.noise.value.is_finite())
        .collect();
    let (left, line, top) = (250.0, 26.0, 78.0);
    let height = top + line * shown.len() as f64 + 70.0;
    let (right, side) = (760.0, 300.0);
    let mut svg = String::new();
    // writing to a string does not fail
    let mut add = |text: String| {
        let _ = writeln!(svg, "{text}");
    };
    let total = right + side + 90.0;
    let height = height.max(top + side + 80.0);
    add(format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {total} {height}' width='{total}' height='{height}'>"
    ));
    add(format!("<rect width='{total}' height='{height}' fill='white'/>"));
    add(format!(
        "<text x='20' y='28' font-family='sans-serif' font-size='17' fill='#222'>{}: noise of the policy gradient, one group</text>",
        escaped(name)
    ));
    add(format!(
        "<text x='20' y='50' {TEXT}>variance at equal signal, as a share of leave-one-out (95 % intervals); less is better</text>"
    ));
    let ends = shown.iter().flat_map(|r| [r.noise.low, r.noise.high]).filter(|x| x.is_finite());
    let most = ends.fold(1.0, f64::max).min(3.0);
    let step = if most > 1.5 { 0.5 } else { 0.25 };
    let most = (most / step).ceil() * step;
    let x = |value: f64| left + (right - 60.0 - left) * value.clamp(0.0, most) / most;
    let bottom = top + line * shown.len() as f64;
    for tick in 0..=(most / step).round() as usize {
        let value = tick as f64 * step;
        let colour = if value == 1.0 { "#888" } else { "#ddd" };
        add(format!(
            "<line x1='{0:.1}' y1='{1}' x2='{0:.1}' y2='{bottom}' stroke='{colour}'/>",
            x(value),
            top - 8.0
        ));
        add(format!(
            "<text x='{:.1}' y='{}' text-anchor='middle' {TEXT}>{value}</text>",
            x(value),
            bottom + 18.0
        ));
    }
    for (place, report) in shown.iter().enumerate() {
        let y = top + line * (place as f64 + 0.5);
        let colour = if report.estimator.contains("full") {
            "#0b6e4f"
        } else if report.estimator.starts_with("optimal") {
            "#3a7ca5"
        } else {
            "#777"
        };
        add(format!(
            "<text x='{}' y='{:.1}' text-anchor='end' {TEXT}>{}</text>",
            left - 12.0,
            y + 4.0,
            escaped(&report.estimator)
        ));
        whisker(&mut add, &report.noise, &x, y, colour);
    }
    // the prompts
    let (from, to) = (right + 20.0, right + side + 20.0);
    let points: Vec<_> = findings.optima.iter().filter_map(|o| Some((o.correlation?, o.noise))).collect();
    let high =
        points.iter().map(|(_, noise)| noise.high).filter(|x| x.is_finite()).fold(1.2, f64::max).min(2.0);
    let px = |c: f64| from + (to - from) * (c.clamp(-1.0, 1.0) + 1.0) / 2.0;
    let py = |n: f64| top + side * (1.0 - n.clamp(0.0, high) / high);
    add(format!("<text x='{}' y='50' {TEXT}>each prompt: optimal against plain</text>", from - 10.0));
    add(format!("<rect x='{from}' y='{top}' width='{side}' height='{side}' fill='none' stroke='#ccc'/>"));
    for value in [0.0, 0.5, 1.0] {
        add(format!("<line x1='{from}' y1='{0:.1}' x2='{to}' y2='{0:.1}' stroke='#ddd'/>", py(value)));
        add(format!(
            "<text x='{}' y='{:.1}' text-anchor='end' {TEXT}>{value}</text>",
            from - 6.0,
            py(value) + 4.0
        ));
    }
    for value in [-1.0, 0.0, 1.0] {
        add(format!(
            "<text x='{:.1}' y='{}' text-anchor='middle' {TEXT}>{value}</text>",
            px(value),
            top + side + 18.0
        ));
    }
    add(format!(
        "<text x='{}' y='{}' text-anchor='middle' {TEXT}>correlation of reward and ‖∇ ln π‖²</text>",
        (from + to) / 2.0,
        top + side + 40.0
    ));
    for (correlation, noise) in points {
        let x = px(correlation);
        add(format!(
            "<line x1='{x:.1}' y1='{:.1}' x2='{x:.1}' y2='{:.1}' stroke='#0b6e4f' stroke-opacity='0.5'/>",
            py(noise.low),
            py(noise.high)
        ));
        add(format!("<circle cx='{x:.1}' cy='{:.1}' r='4' fill='#0b6e4f'/>", py(noise.value)));
    }
    add("</svg>".to_owned());
    svg
}

fn whisker(add: &mut impl FnMut(String), figure: &Figure, x: &impl Fn(f64) -> f64, y: f64, colour: &str) {
    let (low, value, high) = (x(figure.low), x(figure.value), x(figure.high));
    add(format!(
        "<line x1='{low:.1}' y1='{y:.1}' x2='{high:.1}' y2='{y:.1}' stroke='{colour}' stroke-width='2'/>"
    ));
    for end in [low, high] {
        add(format!(
            "<line x1='{end:.1}' y1='{:.1}' x2='{end:.1}' y2='{:.1}' stroke='{colour}' stroke-width='2'/>",
            y - 4.0,
            y + 4.0
        ));
    }
    add(format!("<circle cx='{value:.1}' cy='{y:.1}' r='5' fill='{colour}'/>"));
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
