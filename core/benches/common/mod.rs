//! What the benches share: interleaved rounds, medians, a table, and plain SQLite to compare with.
#![allow(dead_code, reason = "each bench uses a part of it")]
#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::path::Path;
use std::time::Instant;

use verger::rusqlite::Connection;

pub(crate) type Result<T> = anyhow::Result<T>;

/// One way to do the work. A call does it once and gives a figure.
pub(crate) type Contender<'a> = (&'a str, Box<dyn FnMut() -> Result<f64> + 'a>);

/// Runs all contenders in turn, so that a noisy minute hits all of them: the figures of each, round
/// by round.
pub(crate) fn interleave(rounds: usize, contenders: &mut [Contender<'_>]) -> Result<Vec<Vec<f64>>> {
    let mut figures = vec![Vec::with_capacity(rounds); contenders.len()];
    // The first round warms up and does not count.
    for round in 0..=rounds {
        for ((_, run), figures) in contenders.iter_mut().zip(&mut figures) {
            let figure = run()?;
            if round > 0 {
                figures.push(figure);
            }
        }
    }
    Ok(figures)
}

/// The value below which this share of the figures lies.
pub(crate) fn percentile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * (sorted.len() - 1) as f64).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(figures: &[f64]) -> f64 {
    percentile(figures, 0.5)
}

/// The median of the ratios of each round.
pub(crate) fn ratio(of: &[f64], to: &[f64]) -> f64 {
    median(&of.iter().zip(to).map(|(of, to)| of / to).collect::<Vec<_>>())
}

/// Seconds that something takes.
pub(crate) fn seconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// A goal, and whether a figure reaches it.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    None,
}

impl Goal {
    pub(crate) fn show(self, figure: f64) -> [String; 2] {
        let verdict = |reached: bool| if reached { "yes" } else { "no" }.to_string();
        match self {
            Self::AtLeast(goal) => [format!("≥ {goal}"), verdict(figure >= goal)],
            Self::AtMost(goal) => [format!("≤ {goal}"), verdict(figure <= goal)],
            Self::None => [String::new(), String::new()],
        }
    }
}

/// Prints rows in columns, the first aligned to the left, the others to the right.
pub(crate) fn table(title: &str, header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (place, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            line.push_str(&if place == 0 {
                format!("{cell:<width$}")
            } else {
                format!("  {cell:>width$}")
            });
        }
        println!("{}", line.trim_end());
    };
    println!("\n{title}");
    line(&header.iter().map(ToString::to_string).collect::<Vec<_>>());
    line(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
}

/// 12,345
pub(crate) fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Plain SQLite in WAL mode with `synchronous=NORMAL`.
pub(crate) fn plain(file: &Path) -> Result<Connection> {
    let connection = Connection::open(file)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    Ok(connection)
}
