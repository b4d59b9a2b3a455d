//! The dashboard and the alert rules: that they can be read, and name only metrics, labels and pages there are.
//!
//! Their expressions are not understood here, only taken apart: brackets that close, metrics, labels, functions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use super::{documented, page, root};

/// Labels that Prometheus adds, or that `histogram_quantile` needs.
const FOREIGN_LABELS: [&str; 3] = ["instance", "job", "le"];
/// Metrics that Prometheus makes itself.
const FOREIGN_METRICS: [&str; 1] = ["up"];
const FUNCTIONS: [&str; 11] =
    ["absent", "by", "count", "delta", "histogram_quantile", "increase", "max", "min", "on", "rate", "sum"];
const WORDS: [&str; 3] = ["and", "or", "time"];
const VARIABLES: [&str; 3] = ["$instance", "$destination", "$__rate_interval"];

fn read(name: &str) -> String {
    fs::read_to_string(root().join("docs/monitoring").join(name)).unwrap()
}

/// Takes an expression apart, and complains of what is not known.
#[track_caller]
fn is_sound(expression: &str, metrics: &BTreeMap<String, BTreeSet<String>>) {
    let (bare, strings) = without_strings(expression);
    let mut open = Vec::new();
    for sign in bare.chars() {
        match sign {
            '(' | '[' | '{' => open.push(sign),
            ')' => assert_eq!(open.pop(), Some('('), "{expression}"),
            ']' => assert_eq!(open.pop(), Some('['), "{expression}"),
            '}' => assert_eq!(open.pop(), Some('{'), "{expression}"),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{expression}");
    for text in [&bare, &strings] {
        for variable in text.split('$').skip(1) {
            let name: String = variable.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(VARIABLES.contains(&format!("${name}").as_str()), "${name} in {expression}");
        }
    }
    let labels: BTreeSet<&str> =
        metrics.values().flatten().map(String::as_str).chain(FOREIGN_LABELS).collect();
    let (mut inside, mut listed) = (false, false);
    let mut used = 0;
    let mut last = String::new();
    for word in words(&bare) {
        match word.as_str() {
            "{" => inside = true,
            "}" => inside = false,
            "(" => listed = ["by", "on"].contains(&last.as_str()),
            ")" => listed = false,
            name if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {}
            label if inside || listed => assert!(labels.contains(label), "label {label} in {expression}"),
            name if FUNCTIONS.contains(&name) || WORDS.contains(&name) => {}
            name => {
                let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
                let known = |name: &str| metrics.contains_key(name) || FOREIGN_METRICS.contains(&name);
                assert!(known(name) || base.is_some_and(known), "metric {name} in {expression}");
                used += 1;
            }
        }
        last = word;
    }
    assert!(used > 0, "{expression} asks for nothing");
}

/// What stands outside and inside of quotes.
fn without_strings(expression: &str) -> (String, String) {
    let parts: Vec<&str> = expression.split('"').collect();
    assert!(parts.len() % 2 == 1, "a quote is open in {expression}");
    let of = |skip: usize| parts.iter().skip(skip).step_by(2).copied().collect::<Vec<_>>().join(" ");
    (of(0), of(1))
}

/// Names and signs, one by one; a range such as `[5m]` and variables are passed over.
fn words(bare: &str) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), bare);
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let len = match first {
            '[' => rest.find(']').unwrap() + 1,
            '$' => 1 + rest[1..].find(|c| !is_name(c)).unwrap_or(rest.len() - 1),
            c if is_name(c) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        if !first.is_whitespace() && !['[', '$'].contains(&first) {
            words.push(rest[..len].to_owned());
        }
        rest = &rest[len..];
    }
    words
}

#[test]
fn the_dashboard_asks_only_for_what_there_is() {
    let (metrics, dashboard) = (documented(), read("eka-queue-dashboard.json"));
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38, "of Grafana 10");
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["datasource", "instance", "destination"]);
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut places, mut titles, mut shown) =
        (BTreeSet::new(), BTreeSet::new(), Vec::new(), String::new());
    for panel in panels {
        let number = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert!(number("x") + number("w") <= 24, "{panel}");
        for (x, y) in (0..number("w")).flat_map(|x| (0..number("h")).map(move |y| (x, y))) {
            assert!(
                places.insert((number("x") + x, number("y") + y)),
                "two panels lie over each other: {panel}"
            );
        }
        if panel["type"] == "row" {
            titles.push(panel["title"].as_str().unwrap());
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        assert!(!panel["description"].as_str().unwrap().is_empty());
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            let expression = target["expr"].as_str().unwrap();
            is_sound(expression, &metrics);
            assert!(expression.contains("$instance"), "{expression} is not of the chosen machine");
            shown += expression;
        }
    }
    let rows =
        ["Health", "Queue", "Throughput", "Lag", "Attempts", "Breakers", "Spool, GC roots, disk", "Writer"];
    assert_eq!(titles, rows);
    let missing: Vec<_> = metrics.keys().filter(|name| !shown.contains(name.as_str())).collect();
    assert_eq!(missing, [""; 0], "metrics that no panel shows");
}

/// One rule of the file.
#[derive(Default)]
struct Rule(BTreeMap<String, String>);

/// The file is written so that each line has one shape and each value is a JSON string: that is YAML, too.
fn rules(text: &str) -> Vec<Rule> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("groups:"));
    assert_eq!(lines.next(), Some("  - name: \"eka-queue\""));
    assert_eq!(lines.next(), Some("    rules:"));
    let shape = [
        ("      - alert: ", true),
        ("        expr: ", true),
        ("        for: ", true),
        ("        labels:", false),
        ("          severity: ", true),
        ("        annotations:", false),
        ("          summary: ", true),
        ("          description: ", true),
        ("          runbook_url: ", true),
    ];
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len() % shape.len(), 0, "each rule has the same lines");
    let rule = |lines: &[&str]| {
        let mut rule = Rule::default();
        for (line, (begin, has_value)) in lines.iter().zip(shape) {
            let value = line.strip_prefix(begin).unwrap_or_else(|| panic!("{line} is no `{begin}`"));
            if has_value {
                let value: String = serde_json::from_str(value).unwrap_or_else(|e| panic!("{line}: {e}"));
                rule.0.insert(begin.trim_matches([' ', '-', ':']).to_owned(), value);
            } else {
                assert_eq!(value, "");
            }
        }
        rule
    };
    lines.chunks(shape.len()).map(rule).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix("## ").or(line.strip_prefix("### ")));
    let anchor = |heading: &str| -> String {
        let kept = heading.to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn the_alerts_name_what_there_is_and_where_the_remedy_stands() {
    let (metrics, page) = (documented(), page());
    let (rules, anchors) = (rules(&read("eka-queue-alerts.yaml")), anchors(&page));
    assert!(rules.len() >= 10);
    let mut names = BTreeSet::new();
    for Rule(rule) in &rules {
        assert!(names.insert(&rule["alert"]) && rule["alert"].starts_with("EkaQueue"), "{rule:?}");
        is_sound(&rule["expr"], &metrics);
        assert!(["critical", "warning", "info"].contains(&rule["severity"].as_str()), "{rule:?}");
        let (number, unit) = rule["for"].split_at(rule["for"].len() - 1);
        assert!(number.parse::<u32>().is_ok() && "smhd".contains(unit), "{rule:?}");
        assert!(!rule["summary"].is_empty() && rule["description"].len() > 40, "{rule:?}");
        let (file, anchor) = rule["runbook_url"].split_once('#').unwrap();
        assert!(file.ends_with("/docs/operations.md") && anchors.contains(anchor), "{rule:?}");
    }
}

/// The page's own links lead somewhere.
#[test]
fn every_link_within_the_page_has_its_heading() {
    let page = page();
    let anchors = anchors(&page);
    let links = page.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap());
    let lost: Vec<&str> = links.filter(|link| !anchors.contains(*link)).collect();
    assert_eq!(lost, [""; 0]);
}

#[test]
fn what_is_wrong_in_an_expression_is_found() {
    let metrics = documented();
    let is_bad = |expression: &'static str| {
        let metrics = metrics.clone();
        std::thread::spawn(move || is_sound(expression, &metrics)).join().is_err()
    };
    is_sound(
        "sum by (destination) (rate(eka_queue_lag_seconds_count{instance=~\"$instance\"}[5m])) > 0",
        &metrics,
    );
    for expression in [
        "sum(eka_queue_deliveries",
        "eka_queue_no_such_metric > 0",
        "sum by (colour) (eka_queue_deliveries)",
        "eka_queue_deliveries{colour=\"red\"}",
        "eka_queue_deliveries{state=\"$state\"}",
        "1 > 0",
    ] {
        assert!(is_bad(expression), "{expression}");
    }
}
