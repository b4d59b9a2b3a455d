//! Lines of figures come in, a table for people or JSON for programs goes out. A figure that is missed, or that could
//! not be measured, has its line like any other.

use serde::Serialize;

/// What stands before the table of `docs/performance.md`, and behind it.
const FIGURES: &str = "<!-- figures -->";
const FIGURES_END: &str = "<!-- /figures -->";

/// One figure beside its floor and its bound.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    /// The goal's name.
    pub(crate) goal: &'static str,
    /// What was measured.
    pub(crate) what: String,
    /// Ours.
    pub(crate) figure: f64,
    /// Of the figure and the floor.
    pub(crate) unit: Unit,
    /// What the machine itself, or the other way, gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor: Option<Floor>,
    /// The goal, in words with the numbers of this run.
    pub(crate) bound: String,
    /// Whether it holds.
    pub(crate) verdict: Verdict,
    /// What else was seen.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

/// What a figure is compared with.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Floor {
    /// What it is.
    pub(crate) what: &'static str,
    /// In the line's unit.
    pub(crate) value: f64,
}

/// What the numbers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Ms,
    /// Requests a second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
    /// Thousands of bytes.
    #[serde(rename = "kB")]
    Kb,
    /// 1,048,576 bytes.
    #[serde(rename = "MiB")]
    MiB,
    /// Instructions.
    #[serde(rename = "instructions")]
    Instructions,
    /// Requests for each path.
    #[serde(rename = "requests")]
    Requests,
}

/// Whether a goal holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// It does.
    Met,
    /// It does not.
    NotMet,
    /// It is told beside another, and no goal is set.
    NoGoal,
    /// Nobody knows, and this is why.
    NotMeasured(String),
}

impl Verdict {
    /// Of a comparison.
    pub(crate) fn of(holds: bool) -> Self {
        if holds { Self::Met } else { Self::NotMet }
    }
}

impl Line {
    /// A goal without a figure.
    pub(crate) fn not_measured(goal: &'static str, what: &str, why: String) -> Self {
        Self {
            goal,
            what: what.into(),
            figure: 0.0,
            unit: Unit::Ms,
            floor: None,
            bound: String::new(),
            verdict: Verdict::NotMeasured(why),
            note: String::new(),
        }
    }

    /// The line for programs, its ratio included.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut json = serde_json::json!(self);
        json["ratio"] = self.ratio().into();
        json
    }

    /// Figure over floor.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.floor.as_ref().filter(|floor| floor.value > 0.0).map(|floor| self.figure / floor.value)
    }
}

/// The lines as a table, notes below them.
pub(crate) fn table(lines: &[Line]) -> String {
    let head = ["goal", "figure", "ours", "floor", "ratio", "bound", ""].map(String::from);
    let mut rows = vec![head];
    rows.extend(lines.iter().map(row));
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        if let Some(line) = index.checked_sub(1).and_then(|index| lines.get(index)) {
            for note in [note_of(&line.verdict), line.note.as_str()].iter().filter(|note| !note.is_empty()) {
                text.push_str(&format!("      {note}\n"));
            }
        }
    }
    text
}

/// The lines as the table of `docs/performance.md`, with its markers.
pub(crate) fn markdown(lines: &[Line]) -> String {
    let mut text = String::from(FIGURES);
    text.push_str("\n\n| goal | what | bound | measured | floor or peer | ratio | verdict |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for line in lines {
        let [goal, what, ours, floor, ratio, bound, verdict] = row(line);
        let bound = bound.replace("<=", "≤").replace(">=", "≥");
        let cells = [goal, what, bound, ours, floor, ratio, verdict];
        text.push_str(&format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")));
    }
    text.push('\n');
    text.push_str(FIGURES_END);
    text.push('\n');
    text
}

fn note_of(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::NotMeasured(why) => why,
        Verdict::Met | Verdict::NotMet | Verdict::NoGoal => "",
    }
}

fn row(line: &Line) -> [String; 7] {
    let (ours, floor) = match &line.verdict {
        Verdict::NotMeasured(_) => ("-".into(), "-".into()),
        Verdict::Met | Verdict::NotMet | Verdict::NoGoal => (
            shown(line.figure, line.unit),
            line.floor
                .as_ref()
                .map_or("-".into(), |floor| format!("{} ({})", shown(floor.value, line.unit), floor.what)),
        ),
    };
    let ratio = line.ratio().map_or("-".into(), |ratio| format!("{ratio:.2}"));
    let verdict = match &line.verdict {
        Verdict::Met => "met",
        Verdict::NotMet => "NOT MET",
        Verdict::NoGoal => "no goal",
        Verdict::NotMeasured(_) => "NOT MEASURED",
    };
    [line.goal.into(), line.what.clone(), ours, floor, ratio, line.bound.clone(), verdict.into()]
}

/// A value with its unit.
pub(crate) fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ms if value < 10.0 => format!("{value:.2} ms"),
        Unit::Ms => format!("{value:.0} ms"),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Bytes => format!("{value:.1} bytes"),
        Unit::Kb => format!("{value:.1} kB"),
        Unit::MiB => format!("{value:.2} MiB"),
        Unit::Instructions => format!("{value:.0}"),
        Unit::Requests => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(figure: f64, verdict: Verdict) -> Line {
        Line {
            goal: "P0",
            what: "a call".into(),
            figure,
            unit: Unit::Ms,
            floor: Some(Floor { what: "a spawn", value: 0.5 }),
            bound: "<= 2 ms".into(),
            verdict,
            note: String::new(),
        }
    }

    #[test]
    fn a_table_says_met_missed_and_unknown() {
        let unknown = Line::not_measured("P8", "something", "there is no disk".into());
        let noted = Line { note: "p95 4 ms".into(), ..line(3.0, Verdict::of(false)) };
        let expected = "\
goal  figure     ours     floor              ratio  bound
P0    a call     1.00 ms  0.50 ms (a spawn)  2.00   <= 2 ms  met
P0    a call     3.00 ms  0.50 ms (a spawn)  6.00   <= 2 ms  NOT MET
      p95 4 ms
P8    something  -        -                  -               NOT MEASURED
      there is no disk
";
        assert_eq!(table(&[line(1.0, Verdict::of(true)), noted, unknown]), expected);
    }

    #[test]
    fn markdown_is_the_table_between_its_markers() {
        let expected = "\
<!-- figures -->

| goal | what | bound | measured | floor or peer | ratio | verdict |
|---|---|---|---|---|---|---|
| P0 | a call | ≤ 2 ms | 1.00 ms | 0.50 ms (a spawn) | 2.00 | met |
| P8 | something |  | - | - | - | NOT MEASURED |

<!-- /figures -->
";
        let unknown = Line::not_measured("P8", "something", "there is no disk".into());
        assert_eq!(markdown(&[line(1.0, Verdict::of(true)), unknown]), expected);
    }

    #[test]
    fn json_names_unit_floor_and_verdict() {
        let json = line(1.0, Verdict::Met).json();
        assert_eq!((&json["unit"], &json["verdict"]), (&"ms".into(), &"met".into()));
        assert_eq!((&json["floor"]["what"], &json["ratio"]), (&"a spawn".into(), &2.0.into()));
        let json = Line::not_measured("P1", "x", "why".into()).json();
        assert_eq!(json["verdict"]["not-measured"], "why");
    }
}
