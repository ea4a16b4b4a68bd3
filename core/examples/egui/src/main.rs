//! A window with a list of jobs: their progress, a button to cancel each, and what went wrong.
//!
//! `cargo run --manifest-path core/examples/egui/Cargo.toml -- thumbnails.db`

use std::time::Duration;

use eframe::egui;
use serde_json::json;
use verger::verger_worker::prelude::*;
use verger::{Job, JobFilter, JobState, NewJob, TickLoop, Verger};

/// Makes thumbnails, so many of them.
struct Thumbnails;

impl Worker for Thumbnails {
    fn manifest(&self) -> Manifest {
        Manifest::new("thumbnails", "1").arg("pictures", ArgSpec::default_value(100))
    }

    fn perform(&self, job: &Context<'_>, _: Option<&Scope>, args: &Args) -> Result<Outcome, WorkerError> {
        let pictures: u64 = args.get("pictures")?;
        for done in 0..pictures {
            // One picture. A cancelled job ends at its next call of the host.
            std::thread::sleep(Duration::from_millis(50));
            job.progress(done + 1, pictures);
            if (done + 1) % 10 == 0 {
                job.checkpoint()?;
            }
        }
        Ok(Outcome::Done)
    }
}

struct Window {
    verger: Verger,
    ticking: Option<TickLoop>,
    jobs: Vec<Job>,
    problem: Option<String>,
}

impl Window {
    fn look(&mut self) {
        match self.verger.jobs(&JobFilter::new(), 50) {
            Ok(jobs) => self.jobs = jobs,
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    fn row(&self, ui: &mut egui::Ui, job: &Job) -> Option<String> {
        ui.label(format!("{} {}", job.worker, job.id));
        match (job.state, job.progress_done, job.progress_total) {
            (JobState::Executing, Some(done), Some(total)) if total > 0 => {
                ui.add(egui::ProgressBar::new(done as f32 / total as f32).desired_width(160.0));
            }
            (state, ..) => {
                ui.label(state.as_str());
            }
        }
        let mut problem = job.errors.last().map(|error| error.message.clone());
        if let Some(problem) = &problem {
            ui.colored_label(egui::Color32::RED, problem);
        }
        if !job.state.is_final() && ui.button("cancel").clicked() {
            problem = self.verger.cancel(job.id).err().map(|error| error.to_string());
        }
        ui.end_row();
        problem
    }
}

impl eframe::App for Window {
    fn update(&mut self, context: &egui::Context, _: &mut eframe::Frame) {
        self.look();
        egui::CentralPanel::default().show(context, |ui| {
            if ui.button("make thumbnails").clicked() {
                let job = NewJob::new("thumbnails", json!({ "pictures": 100 }));
                self.problem = self.verger.enqueue(job).err().map(|error| error.to_string());
            }
            if let Some(problem) = &self.problem {
                ui.colored_label(egui::Color32::RED, problem);
            }
            egui::Grid::new("jobs").striped(true).show(ui, |ui| {
                for job in &self.jobs {
                    self.row(ui, job);
                }
            });
        });
        context.request_repaint_after(Duration::from_millis(250));
    }

    fn on_exit(&mut self, _: Option<&eframe::glow::Context>) {
        if let Some(ticking) = self.ticking.take() {
            // A job that is not done by then goes back to the queue.
            let _ = ticking.stop(Duration::from_secs(2));
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).unwrap_or_else(|| "thumbnails.db".to_string());
    let verger = Verger::builder(file).worker(Thumbnails).open()?;
    let ticking = Some(verger.start()?);
    let window = Window { verger, ticking, jobs: Vec::new(), problem: None };
    eframe::run_native(
        "Thumbnails",
        eframe::NativeOptions::default(),
        Box::new(|_| Ok(Box::new(window))),
    )?;
    Ok(())
}
