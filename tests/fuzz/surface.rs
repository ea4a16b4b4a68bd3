//! One surface, attacked: the corpus first, then cases at random.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::strategy::{BoxedStrategy, Strategy};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// What one case came to, for the tally; or what is wrong.
pub(crate) type Verdict = Result<String, String>;

/// Where input comes in. It is bytes everywhere, so that a file of the corpus is an input.
pub(crate) struct Surface<'a> {
    /// Its folder in the corpus.
    pub(crate) name: &'static str,
    /// Cases in a short run.
    pub(crate) cases: u32,
    pub(crate) inputs: BoxedStrategy<Vec<u8>>,
    pub(crate) check: &'a dyn Fn(&[u8]) -> Verdict,
}

/// How long a long run goes on.
fn long() -> Option<Duration> {
    let seconds = std::env::var("VERGER_LONG").ok()?.parse().unwrap_or(1);
    Some(Duration::from_secs(if seconds == 1 { 600 } else { seconds }))
}

/// A short run is the same every time, a long one never.
fn seed() -> u64 {
    match std::env::var("VERGER_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) if long().is_some() => RandomState::new().hash_one(0),
        Err(_) => 20_261_122,
    }
}

impl Surface<'_> {
    /// # Panics
    /// At the first case that is wrong.
    pub(crate) fn attack(&self) {
        let kept = self.replay();
        let (seed, begun) = (seed(), Instant::now());
        let goes_on =
            |number: u32| long().map_or(number < self.cases, |time| begun.elapsed() < time);
        let bytes: Vec<u8> = [seed, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        let config =
            Config { max_shrink_iters: 500, failure_persistence: None, ..Config::default() };
        let mut runner =
            TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let tally: RefCell<BTreeMap<String, u32>> = RefCell::default();
        let mut number = 0;
        while goes_on(number) {
            let case = self.inputs.new_tree(&mut runner).unwrap();
            let tested = runner.run_one(case, |input| {
                let kind = (self.check)(&input).map_err(TestCaseError::fail)?;
                *tally.borrow_mut().entry(kind).or_default() += 1;
                Ok(())
            });
            match tested {
                Ok(_) => number += 1,
                Err(TestError::Fail(reason, input)) => {
                    panic!(
                        "{}, seed {seed}, case {number}: {reason}\n{}",
                        self.name,
                        self.keep(&input)
                    )
                }
                Err(TestError::Abort(reason)) => {
                    panic!("{}, seed {seed}, case {number} cannot be made: {reason}", self.name)
                }
            }
        }
        println!(
            "{}: {kept} of the corpus, {number} cases, seed {seed}, in {:.1?}: {:#?}",
            self.name,
            begun.elapsed(),
            tally.borrow()
        );
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(self.name)
    }

    fn replay(&self) -> usize {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in &files {
            match (self.check)(&std::fs::read(file).unwrap()) {
                Ok(kind) => println!(
                    "{}/{}: {kind}",
                    self.name,
                    file.file_name().unwrap_or_default().display()
                ),
                Err(reason) => panic!("{}: {reason}", file.display()),
            }
        }
        files.len()
    }

    /// Writes an input that is wrong into the corpus, under a name of its own until someone finds a
    /// better one.
    fn keep(&self, input: &[u8]) -> String {
        let name = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let file = self.folder().join(format!("found-{name:016x}"));
        match std::fs::write(&file, input) {
            Ok(()) => format!("the input is {}", file.display()),
            Err(error) => {
                format!("the input cannot be kept ({error}); it is \"{}\"", input.escape_ascii())
            }
        }
    }
}
