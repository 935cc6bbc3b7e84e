//! The chart: bars for what one core carries, and for what is added to an answer's time. Written as SVG by hand.

use std::fmt::Write;

use super::proxies::Kind;
use super::throughput::{Latency, Scenario, Series, median};

const WIDTH: f64 = 860.0;
const LABELS: f64 = 250.0;
const BAR: f64 = 22.0;
const GAP: f64 = 8.0;
const TITLE: f64 = 44.0;
const MARGIN: f64 = 24.0;

struct Bar {
    label: &'static str,
    value: f64,
    text: String,
    colour: &'static str,
}

/// Draws everything that was measured, one panel below the other.
pub fn draw(saturation: &[(Scenario, Vec<Series>)], latency: Option<&(f64, Vec<Latency>)>) -> String {
    let mut body = String::new();
    let mut y = MARGIN;
    for (scenario, series) in saturation {
        let bare = series.iter().find(|series| series.kind == Kind::BareDefault);
        let bars: Vec<Bar> = series
            .iter()
            .map(|own| {
                let ratio = bare.filter(|bare| bare.kind != own.kind);
                let ratio = ratio.map_or(String::new(), |bare| format!("  ·  {:.2} of bare", own.ratio(bare)));
                let text = format!("{}{ratio}", thousands(own.rate()));
                Bar { label: own.kind.name(), value: own.rate(), text, colour: colour(own.kind) }
            })
            .collect();
        panel(&mut body, &mut y, scenario.title(), "requests a second on one core", &bars);
    }
    if let Some((rate, latencies)) = latency {
        let title = format!("Latency at {} requests/s, 70 % of what the edge carries", thousands(*rate));
        let bars = latencies.iter().flat_map(|own| {
            [(&own.p50, "p50"), (&own.p99, "p99")].map(|(values, name)| Bar {
                label: own.kind.name(),
                value: median(values),
                text: format!("{name}  {:.0} µs", median(values)),
                colour: colour(own.kind),
            })
        });
        panel(&mut body, &mut y, &title, "microseconds from the moment a request was due", &bars.collect::<Vec<_>>());
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" \
         font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn panel(body: &mut String, y: &mut f64, title: &str, unit: &str, bars: &[Bar]) {
    let largest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max).max(1e-9);
    // Room for the text behind the longest bar.
    let room = WIDTH - LABELS - MARGIN - 170.0;
    // Writing to a string cannot fail.
    let _ = writeln!(
        body,
        "<text x=\"{MARGIN}\" y=\"{:.0}\" font-size=\"16\" font-weight=\"600\" fill=\"#1b1f24\">{title}</text>\n\
         <text x=\"{MARGIN}\" y=\"{:.0}\" font-size=\"12\" fill=\"#656d76\">{unit}</text>",
        *y + 14.0,
        *y + 32.0
    );
    *y += TITLE;
    let mut last = "";
    for bar in bars {
        let length = bar.value / largest * room;
        let middle = *y + BAR / 2.0 + 4.5;
        if bar.label != last {
            let _ = writeln!(
                body,
                "<text x=\"{:.0}\" y=\"{middle:.1}\" text-anchor=\"end\" fill=\"#1b1f24\">{}</text>",
                LABELS - 10.0,
                bar.label
            );
        }
        last = bar.label;
        let _ = writeln!(
            body,
            "<rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"3\" fill=\"{}\"/>\n\
             <text x=\"{:.1}\" y=\"{middle:.1}\" fill=\"#1b1f24\">{}</text>",
            *y,
            bar.colour,
            LABELS + length + 8.0,
            bar.text
        );
        *y += BAR + GAP;
    }
    *y += MARGIN;
}

const fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Edge => "#0f766e",
        Kind::BareDefault | Kind::BareMimalloc => "#94a3b8",
        Kind::Haproxy | Kind::Nginx | Kind::Envoy => "#cbd5e1",
        Kind::Direct => "#e2e8f0",
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}
