//! Waits as a picture: a row of bars for each series, all over one logarithmic axis.

use std::fmt::Write;

/// Bars a decade of milliseconds has.
const BARS: usize = 8;

/// From 10 µs to 10 s.
const FIRST_DECADE: i32 = -2;
const DECADES: usize = 6;

const LEFT: usize = 330;
const WIDTH: usize = 960;
const ROW: usize = 56;
const TOP: usize = 46;

/// A picture of how often each series waited how long, in milliseconds. No line of it is empty, so
/// that Markdown takes it as one piece.
pub(crate) fn svg(title: &str, series: &[(String, Vec<f64>)], limits: &[(f64, &str)]) -> String {
    let bottom = TOP + series.len() * ROW;
    let height = bottom + 40;
    let wide = WIDTH - LEFT - 20;
    let x = |ms: f64| {
        let decades = ms.max(1e-9).log10() - f64::from(FIRST_DECADE);
        LEFT as f64 + decades.clamp(0.0, DECADES as f64) / DECADES as f64 * wide as f64
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"15\" fill=\"#202020\">{title}</text>\n"
    );
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    for (place, label) in
        ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"].iter().enumerate()
    {
        let at = x(10_f64.powi(FIRST_DECADE + place as i32));
        line(format!(
            "<line x1=\"{at:.0}\" y1=\"{TOP}\" x2=\"{at:.0}\" y2=\"{bottom}\" stroke=\"#dddddd\"/>\
             <text x=\"{at:.0}\" y=\"{}\" text-anchor=\"middle\" fill=\"#606060\">{label}</text>",
            bottom + 18
        ));
    }
    for (ms, label) in limits {
        let at = x(*ms);
        line(format!(
            "<line x1=\"{at:.0}\" y1=\"{TOP}\" x2=\"{at:.0}\" y2=\"{bottom}\" stroke=\"#c03030\" stroke-dasharray=\"4 3\"/>\
             <text x=\"{at:.0}\" y=\"{}\" text-anchor=\"middle\" fill=\"#c03030\">{label}</text>",
            TOP - 5
        ));
    }
    for (place, (name, waits)) in series.iter().enumerate() {
        let base = TOP + (place + 1) * ROW - 6;
        let mut counts = vec![0_usize; BARS * DECADES];
        for ms in waits {
            let bar = (ms.max(1e-9).log10() - f64::from(FIRST_DECADE)) * BARS as f64;
            counts[(bar.max(0.0) as usize).min(BARS * DECADES - 1)] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
        let mut bars = String::new();
        for (bar, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            // One wait in ten thousand is still seen.
            let tall = (1.0 + (*count as f64).ln()) / (1.0 + most.ln()) * (ROW - 16) as f64;
            let from = LEFT as f64 + bar as f64 / (BARS * DECADES) as f64 * wide as f64;
            let _ = write!(
                bars,
                "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"#3070b0\"/>",
                base as f64 - tall,
                wide as f64 / (BARS * DECADES) as f64 - 1.0
            );
        }
        line(format!(
            "<text x=\"10\" y=\"{}\" fill=\"#202020\">{name}</text>{bars}\
             <line x1=\"{LEFT}\" y1=\"{base}\" x2=\"{}\" y2=\"{base}\" stroke=\"#909090\"/>",
            base - 4,
            LEFT + wide
        ));
    }
    line("</svg>".to_string());
    out
}
