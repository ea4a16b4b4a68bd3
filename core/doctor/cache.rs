//! The folder of compiled components. Whoever can write there can run code in the app.

use super::examination::{Examination, quoted};
use super::facts::CacheFacts;
use super::finding::Finding;
use crate::sandbox::CompileCache;

pub(super) fn check(examination: &mut Examination<'_>, cache: &CompileCache) {
    let Some(folder) = cache.folder() else {
        examination.found(Finding::note(
            "no-cache",
            "there is no folder for compiled components: each start compiles all plugins",
        ));
        return;
    };
    let Ok(entries) = std::fs::read_dir(&folder) else { return };
    let (mut files, mut bytes) = (0, 0);
    for entry in entries.flatten() {
        if let Ok(found) = entry.metadata().map(|found| found.len()) {
            files += 1;
            bytes += found;
        }
    }
    if !cache.is_usable() {
        examination.found(
            Finding::warning(
                "cache-not-private",
                format!("others than its owner may write the folder of compiled components, {}, so that it is not used: each start compiles all plugins", folder.display()),
            )
            .about(folder.display().to_string())
            .mend(format!("rm -r {0} && mkdir -m 700 {0}", quoted(&folder))),
        );
    }
    examination.facts.cache = Some(CacheFacts { folder, files, bytes });
}
