//! `verger plugin compile`: compiles components to machine code before the app ships.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use verger::{CompiledComponent, built_in_components, compile_component};

use crate::options::Options;
use crate::output::{print, print_json};

#[derive(Args)]
pub(crate) struct Compile {
    /// The components
    files: Vec<PathBuf>,
    /// Compile the built-in workers, too
    #[arg(long)]
    built_ins: bool,
    /// For machines of this kind, such as aarch64-apple-darwin; `pulley64` for builds with the
    /// feature `pulley`. Other architectures than this machine's need a command that was installed
    /// with `--features cross-compile`
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// The folder to write into; it is made when it is not there
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// What was made of a component.
struct Made {
    of: String,
    file: PathBuf,
    bytes: usize,
}

impl Compile {
    pub(crate) fn run(&self, options: &Options) -> Result<()> {
        ensure!(
            !self.files.is_empty() || self.built_ins,
            "name the components to compile, or give --built-ins"
        );
        let target = self.target.as_deref();
        // All are compiled before any is written.
        let mut compiled = Vec::new();
        for file in &self.files {
            let what = file.display().to_string();
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {what}"))?;
            compiled.push((what.clone(), compile_component(&what, &bytes, target)?));
        }
        if self.built_ins {
            for (name, bytes) in built_in_components() {
                compiled.push((name.to_string(), compile_component(name, bytes, target)?));
            }
        }
        make_folder(&self.output)?;
        let made = compiled
            .into_iter()
            .map(|(of, compiled)| self.write(of, &compiled))
            .collect::<Result<Vec<_>>>()?;
        for Made { of, file, bytes } in made {
            match options.json {
                true => print_json(&json!({"component": of, "file": file, "bytes": bytes}))?,
                false => print([format!("{of}: {}, {bytes} bytes", file.display())]),
            }
        }
        Ok(())
    }

    /// Writes the file whole or not at all.
    fn write(&self, of: String, compiled: &CompiledComponent) -> Result<Made> {
        let path = self.output.join(compiled.file_name());
        let cannot = || format!("cannot write {}", path.display());
        let file = tempfile::NamedTempFile::new_in(&self.output).with_context(cannot)?;
        std::fs::write(file.path(), compiled.as_bytes()).with_context(cannot)?;
        #[cfg(unix)]
        std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.persist(&path).with_context(cannot)?;
        Ok(Made { of, file: path, bytes: compiled.as_bytes().len() })
    }
}

/// Makes a folder that nobody else can write to, because its contents are run.
fn make_folder(folder: &Path) -> Result<()> {
    let mut making = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut making, 0o755);
    making
        .recursive(true)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}
