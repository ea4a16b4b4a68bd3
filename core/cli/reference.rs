//! The command reference of the guide, made from the parser itself.

use clap::{Arg, Command, CommandFactory};

use crate::Cli;

/// The page: `VERGER_WRITE=1 cargo test -p verger-cli reference` writes it.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guide/commands.md");

#[test]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn the_command_reference_of_the_guide_is_what_the_parser_says() {
    let page = page();
    if std::env::var_os("VERGER_WRITE").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(kept == page, "VERGER_WRITE=1 cargo test -p verger-cli reference");
}

fn page() -> String {
    let mut command = Cli::command();
    command.build();
    let mut page = "# Command reference\n\n".to_string();
    page.push_str(&format!("`cargo install verger-cli` installs `verger`. {}\n", about(&command)));
    page.push_str("\nWith every verb:\n\n");
    options(&command, true, &mut page);
    verbs(&command, "verger", &mut page);
    page
}

fn verbs(command: &Command, path: &str, page: &mut String) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let path = format!("{path} {}", verb.get_name());
        if verb.has_subcommands() {
            verbs(verb, &path, page);
            continue;
        }
        let operands: String = verb
            .get_positionals()
            .map(|arg| format!(" {}", arg.get_id().as_str().to_uppercase()))
            .collect();
        page.push_str(&format!("\n## `{path}{operands}`\n\n{}\n", about(verb)));
        let mut list = String::new();
        options(verb, false, &mut list);
        if !list.is_empty() {
            page.push_str(&format!("\n{list}"));
        }
    }
}

/// What the parser says of a command, in the long form if there is one.
fn about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about());
    paragraph(&about.map(ToString::to_string).unwrap_or_default())
}

fn options(command: &Command, global: bool, page: &mut String) {
    let args = command.get_arguments().filter(|arg| {
        arg.is_global_set() == global
            && !arg.is_hide_set()
            && !["help", "version"].contains(&arg.get_id().as_str())
    });
    for arg in args {
        let help = arg.get_long_help().or(arg.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        page.push_str(&format!("- {}: {}\n", name(arg), paragraph(&help).replace('\n', "\n  ")));
    }
}

fn name(arg: &Arg) -> String {
    let value = match (arg.get_action().takes_values(), arg.get_value_names()) {
        (true, Some([value, ..])) => format!(" {value}"),
        _ => String::new(),
    };
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    match names.is_empty() {
        true => format!("`{}`", arg.get_id().as_str().to_uppercase()),
        false => format!("`{}{value}`", names.join(", ")),
    }
}

/// Text as Markdown. Text indented by four spaces becomes a block of code.
fn paragraph(text: &str) -> String {
    let mut shown = String::new();
    let mut code = false;
    for line in text.lines() {
        let set_in = line.starts_with("  ");
        if set_in != code && (set_in || !line.is_empty()) {
            shown.push_str(if set_in { "```text\n" } else { "```\n" });
            code = set_in;
        }
        if !code {
            shown.push_str(&line.replace('<', "\\<").replace('[', "\\["));
        } else {
            shown.push_str(line);
        }
        shown.push('\n');
    }
    if code {
        shown.push_str("```\n");
    }
    shown.trim_end().to_string()
}
