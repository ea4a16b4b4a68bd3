//! Which waiting jobs of a database a version could not perform.

use std::collections::BTreeMap;

use anyhow::Result;
use verger::{JobFilter, JobState};

use super::super::component::Loaded;
use super::finding::Findings;
use crate::books::Books;
use crate::output::counted;

/// The most waiting jobs that are looked at.
const JOBS_MAX: usize = 100_000;

/// Jobs read at once.
const PAGE: u32 = 500;

/// The most reasons that are reported.
const REASONS_MAX: usize = 10;

/// The ids that are reported with each reason.
const IDS_MAX: usize = 5;

/// Jobs that cannot be performed for one reason.
#[derive(Default)]
struct Unfit {
    count: u64,
    /// The first of them.
    ids: Vec<String>,
}

impl Unfit {
    fn in_words(&self) -> String {
        let more = if self.count > self.ids.len() as u64 { ", …" } else { "" };
        format!("{} ({}{more})", counted(self.count, "waiting job"), self.ids.join(", "))
    }
}

pub(super) fn examine(new: &Loaded, file: &Books, findings: &mut Findings) -> Result<()> {
    let Loaded { verger, manifest } = new;
    let states = JobState::ALL.into_iter().filter(|state| state.is_waiting());
    let waiting = JobFilter::new().worker(&manifest.name).states(states);
    let (mut looked_at, mut too_new) = (0_u64, Unfit::default());
    let mut unfit: BTreeMap<String, Unfit> = BTreeMap::new();
    let mut last = None;
    while looked_at < JOBS_MAX as u64 {
        let filter = last.map_or_else(|| waiting.clone(), |last| waiting.clone().before(last));
        let page = file.jobs(&filter, PAGE)?;
        let Some(oldest) = page.last() else { break };
        last = Some(oldest.id);
        for job in &page {
            looked_at += 1;
            let place = if job.args_version > manifest.args_version {
                &mut too_new
            } else {
                match verger.args_for(&manifest.name, job.args.clone(), job.args_version) {
                    Ok(_) => continue,
                    Err(error) => unfit.entry(error.to_string()).or_default(),
                }
            };
            place.count += 1;
            // The newest come first, so the oldest of those seen so far are kept.
            place.ids.insert(0, job.id.to_string());
            place.ids.truncate(IDS_MAX);
        }
    }
    let rest = if looked_at < JOBS_MAX as u64 { "" } else { ", the newest; there may be more" };
    if too_new.count > 0 {
        let (jobs, version) = (too_new.in_words(), manifest.args_version);
        findings.advice(
            "jobs",
            format!(
                "{jobs} would be parked: they are for a later version of its args than {version}"
            ),
        );
    }
    let reasons = unfit.len();
    for (why, unfit) in unfit.iter().take(REASONS_MAX) {
        findings.must_fix("jobs", format!("{} could not be performed: {why}", unfit.in_words()));
    }
    if reasons > REASONS_MAX {
        let more = counted((reasons - REASONS_MAX) as u64, "more reason");
        findings.must_fix("jobs", format!("jobs could not be performed for {more}"));
    }
    if reasons == 0 {
        let fit = looked_at - too_new.count;
        findings.ok("jobs", format!("its args fit {}{rest}", counted(fit, "waiting job")));
    }
    Ok(())
}
