//! A user timer of systemd, and the service that it starts.

use super::{Plan, Written};

pub(super) fn files(plan: &Plan) -> Vec<Written> {
    let run: Vec<String> = plan.run.iter().map(|word| quoted(word)).collect();
    let about = plan.about.replace('%', "%%");
    let service = format!(
        "[Unit]\nDescription={about}\n\n[Service]\nType=oneshot\nExecStart={}\nNice=10\nTimeoutStartSec=1h\n",
        run.join(" ")
    );
    let timer = format!(
        "[Unit]\nDescription={about}, every {seconds} s\n\n[Timer]\nOnStartupSec=1min\nOnUnitInactiveSec={seconds}s\nAccuracySec=15s\n\n\
         [Install]\nWantedBy=timers.target\n",
        seconds = plan.every.as_secs()
    );
    vec![
        Written { name: format!("{}.service", plan.name), bytes: service.into_bytes() },
        Written { name: format!("{}.timer", plan.name), bytes: timer.into_bytes() },
    ]
}

/// A word of a command line. systemd.service(5) has escapes, specifiers and variables of its own.
fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\t' => quoted.push_str("\\t"),
            '%' => quoted.push_str("%%"),
            '$' => quoted.push_str("$$"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
