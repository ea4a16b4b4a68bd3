//! An app whose jobs are traced and counted by OpenTelemetry. Each attempt is a span of the trace
//! that its job was enqueued in, and Verger's numbers are metrics.
//!
//! ```sh
//! # anything that takes OTLP over HTTP at port 4318, as the collector or Jaeger
//! cargo run --manifest-path core/examples/opentelemetry/Cargo.toml -- app.db
//! ```
//!
//! `OTEL_EXPORTER_OTLP_ENDPOINT` names another address. The export is sent in the background, and
//! the rest is flushed at the end.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use opentelemetry::global::{self, BoxedSpan};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context as TraceContext, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use verger::verger_worker::prelude::*;
use verger::{NewJob, Verger};

struct SendReport;

impl Worker for SendReport {
    fn manifest(&self) -> Manifest {
        Manifest::new("send-report", "1").arg("month", ArgSpec::required())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let month: String = args.get("month")?;
        job.log(LogLevel::Info, &format!("the report of {month}"));
        match month.as_str() {
            "never" => Ok(Outcome::Discard(WorkerError::new("there is no such month"))),
            _ => Ok(Outcome::Done),
        }
    }
}

/// Makes an OpenTelemetry span of each attempt. What Verger logs within it, as what the worker
/// logs, are the span's events.
struct Attempts;

/// The fields of a span or an event, as text.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_string()));
    }
}

impl Fields {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| *key == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn attributes(self) -> Vec<KeyValue> {
        let named = |(name, value)| KeyValue::new(format!("verger.{name}"), value);
        self.0.into_iter().map(named).collect()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Attempts {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        let of = attributes.metadata();
        let (Some(span), "verger::job", "attempt") = (context.span(id), of.target(), of.name())
        else {
            return;
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        // The trace goes on where the job was enqueued.
        let carried: HashMap<String, String> = fields
            .take("traceparent")
            .map(|text| ("traceparent".to_string(), text))
            .into_iter()
            .collect();
        let parent =
            TraceContextPropagator::new().extract_with_context(&TraceContext::new(), &carried);
        let tracer = global::tracer("verger");
        let name = fields.take("worker").unwrap_or_default();
        let started = tracer
            .span_builder(format!("perform {name}"))
            .with_kind(SpanKind::Consumer)
            .with_attributes(fields.attributes())
            .start_with_context(&tracer, &parent);
        span.extensions_mut().insert(started);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: LayerContext<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(attempt) = extensions.get_mut::<BoxedSpan>() else { return };
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(error) = fields.take("error") {
            attempt.set_status(Status::error(error));
        }
        attempt.set_attributes(fields.attributes());
    }

    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, S>) {
        let Some(scope) = context.event_scope(event) else { return };
        for span in scope {
            let mut extensions = span.extensions_mut();
            let Some(attempt) = extensions.get_mut::<BoxedSpan>() else { continue };
            let mut fields = Fields::default();
            event.record(&mut fields);
            attempt.add_event(fields.take("message").unwrap_or_default(), fields.attributes());
            return;
        }
    }

    fn on_close(&self, id: Id, context: LayerContext<'_, S>) {
        if let Some(span) = context.span(&id)
            && let Some(mut attempt) = span.extensions_mut().remove::<BoxedSpan>()
        {
            attempt.end();
        }
    }
}

/// Verger's numbers, asked for each time metrics are sent.
fn observe(verger: &Verger) {
    let meter = global::meter("verger");
    let (ended, waits) = (verger.clone(), verger.clone());
    meter
        .u64_observable_counter("verger.attempts")
        .with_description("Attempts that ended, by worker and outcome")
        .with_callback(move |observer| {
            let Ok(metrics) = ended.metrics() else { return };
            for (worker, of) in &metrics.workers {
                for (outcome, count) in [
                    ("completed", of.completed),
                    ("retried", of.retried),
                    ("discarded", of.discarded),
                    ("cancelled", of.cancelled),
                    ("snoozed", of.snoozed),
                ] {
                    observer.observe(
                        count,
                        &[
                            KeyValue::new("worker", worker.clone()),
                            KeyValue::new("outcome", outcome),
                        ],
                    );
                }
            }
        })
        .build();
    meter
        .u64_observable_gauge("verger.waiting")
        .with_description("Jobs that wait, by queue")
        .with_callback(move |observer| {
            let Ok(metrics) = waits.metrics() else { return };
            for (queue, jobs) in &metrics.waiting {
                observer.observe(*jobs, &[KeyValue::new("queue", queue.clone())]);
            }
        })
        .build();
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).unwrap_or_else(|| "app.db".to_string());
    let resource = Resource::builder().with_service_name("notes").build();
    let spans = opentelemetry_otlp::SpanExporter::builder().with_http().build()?;
    let traces = SdkTracerProvider::builder()
        .with_batch_exporter(spans)
        .with_resource(resource.clone())
        .build();
    global::set_tracer_provider(traces.clone());
    let numbers = opentelemetry_otlp::MetricExporter::builder().with_http().build()?;
    let metrics =
        SdkMeterProvider::builder().with_periodic_exporter(numbers).with_resource(resource).build();
    global::set_meter_provider(metrics.clone());
    // The exporter's own lines are below this level.
    let lines = tracing_subscriber::fmt::layer().with_filter(LevelFilter::INFO);
    tracing_subscriber::registry().with(lines).with(Attempts).init();

    let verger = Verger::builder(file).worker(SendReport).open()?;
    observe(&verger);
    let running = verger.start()?;

    // What a request of the app does: its own span, and a job that goes on in the same trace.
    let tracer = traces.tracer("notes");
    for month in ["2026-01", "never"] {
        tracer.in_span("GET /report", |context| -> Result<(), Box<dyn Error>> {
            let mut carried = HashMap::new();
            TraceContextPropagator::new().inject_context(&context, &mut carried);
            let mut job = NewJob::new("send-report", serde_json::json!({ "month": month }));
            if let Some(traceparent) = carried.remove("traceparent") {
                job = job.traceparent(traceparent);
            }
            let id = verger.enqueue(job)?.id;
            println!("job {id} in trace {}", context.span().span_context().trace_id());
            Ok(())
        })?;
    }
    std::thread::sleep(Duration::from_secs(1));
    running.stop(Duration::from_secs(5))?;
    traces.shutdown()?;
    metrics.shutdown()?;
    Ok(())
}
