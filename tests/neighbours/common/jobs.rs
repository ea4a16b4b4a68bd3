//! What the programs of this folder share: a Verger on the file that the neighbour has open, a
//! native worker that counts, and the wait until it has counted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use verger::verger_worker::{Args, Context, Scope, Worker, WorkerError};
use verger::{Manifest, Outcome, TickLoop, Verger};

/// Counts its jobs.
pub struct Count(pub Arc<AtomicUsize>);

impl Worker for Count {
    fn manifest(&self) -> Manifest {
        Manifest::new("count", "1")
    }

    fn perform(&self, _: &Context<'_>, _: Option<&Scope>, _: &Args) -> Result<Outcome, WorkerError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Outcome::Done)
    }
}

/// The app beside its neighbour, with the loop running.
pub struct App {
    #[allow(dead_code, reason = "some enqueue without it")]
    pub verger: Verger,
    pub counted: Arc<AtomicUsize>,
    ticking: TickLoop,
}

impl App {
    pub fn open(file: &Path) -> Self {
        let counted = Arc::new(AtomicUsize::new(0));
        let verger =
            Verger::builder(file).worker(Count(Arc::clone(&counted))).open().expect("open");
        let ticking = verger.start().expect("start");
        Self { verger, counted, ticking }
    }

    /// Waits until so many jobs were performed, and makes sure that no other follows.
    pub fn has_performed(self, jobs: usize) {
        let begun = Instant::now();
        while self.counted.load(Ordering::SeqCst) < jobs {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?} of {jobs}", self.counted);
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("{jobs} jobs performed within {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(300));
        self.ticking.stop(Duration::from_secs(5)).expect("stop");
        assert_eq!(self.counted.load(Ordering::SeqCst), jobs, "a job that was rolled back ran");
    }
}
