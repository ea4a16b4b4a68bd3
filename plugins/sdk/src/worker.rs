//! The trait every worker implements.

use crate::args::Args;
use crate::context::Context;
use crate::error::WorkerError;
use crate::manifest::Manifest;
use crate::outcome::Outcome;
use crate::scope::Scope;

/// Code with a name that performs jobs.
///
/// The same type is exported from a component with [`export!`](crate::export), registered as plain
/// Rust with Verger's builder, and run in a unit test by `testing::MemoryHost`.
pub trait Worker {
    /// What the worker is and what it asks for. It is called without a database.
    fn manifest(&self) -> Manifest;

    /// Performs one job. Everything written through `job` commits together with the outcome, or not
    /// at all. An `Err` is the same as [`Outcome::Failed`], or as [`Outcome::Discard`] if args are
    /// missing or wrong. A component is stopped at its deadline wherever it is. Plain Rust is
    /// stopped only at its host calls, so a loop without one must look at [`Context::is_cancelled`]
    /// itself.
    ///
    /// `scope` is there for tenant-aware workers. It is for the audit log and must not authorize
    /// anything.
    ///
    /// # Errors
    /// Any error ends the attempt as failed, with its words.
    fn perform(
        &self,
        job: &Context<'_>,
        scope: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError>;

    /// Brings the args of a job of an earlier version into the form that [`perform`](Self::perform)
    /// takes, that of [`Manifest::args_version`]. By default they stay as they are. Either way they
    /// are then checked against the manifest.
    ///
    /// It is called before each attempt at such a job, without a database and without defaults. The
    /// job keeps the args it was enqueued with, so that after a rollback the version before can use
    /// them. The keys that make the scope keep their values, whatever is returned.
    ///
    /// ```
    /// use verger_worker::prelude::*;
    ///
    /// struct Report;
    ///
    /// impl Worker for Report {
    ///     fn manifest(&self) -> Manifest {
    ///         // Version 1 had `days`, a number of days.
    ///         Manifest::new("report", "2.0.0")
    ///             .args_version(2)
    ///             .arg("hours", ArgSpec::required().of(ArgType::Integer))
    ///     }
    ///
    ///     fn migrate_args(&self, from: u32, args: Args) -> Result<Args, WorkerError> {
    ///         match from {
    ///             1 => Ok(Args::from_json(json!({ "hours": 24 * args.get::<i64>("days")? }))?),
    ///             _ => Ok(args),
    ///         }
    ///     }
    ///
    ///     fn perform(&self, _: &Context<'_>, _: Option<&Scope>, args: &Args) -> Result<Outcome, WorkerError> {
    ///         Ok(Outcome::DoneWith(json!(args.get::<i64>("hours")?)))
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Any error discards the job at once, because the same args would fail the next time too.
    fn migrate_args(&self, from: u32, args: Args) -> Result<Args, WorkerError> {
        let _ = from;
        Ok(args)
    }
}

/// Exports a worker from a component. Outside WebAssembly it expands to nothing.
///
/// ```
/// # use verger_worker::prelude::*;
/// struct Nothing;
/// impl Worker for Nothing {
///     fn manifest(&self) -> Manifest { Manifest::new("nothing", "1.0.0") }
///     fn perform(&self, _: &Context<'_>, _: Option<&Scope>, _: &Args) -> Result<Outcome, WorkerError> { Ok(Outcome::Done) }
/// }
/// verger_worker::export!(Nothing);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ($worker:expr) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Exported;
            impl $crate::guest::bindings::Guest for Exported {
                fn describe() -> ::std::string::String {
                    $crate::guest::log_panics();
                    $crate::guest::describe(&$worker)
                }
                fn perform(
                    scope: ::std::option::Option<$crate::guest::bindings::Scope>,
                    args: ::std::string::String,
                ) -> $crate::guest::bindings::Outcome {
                    $crate::guest::log_panics();
                    $crate::guest::perform(&$worker, scope, &args)
                }
                fn migrate_args(
                    from_version: u32,
                    args: ::std::string::String,
                ) -> ::std::result::Result<::std::string::String, $crate::guest::bindings::Error>
                {
                    $crate::guest::log_panics();
                    $crate::guest::migrate_args(&$worker, from_version, &args)
                }
            }
    $crate::guest::bindings::export!(Exported with_types_in $crate::guest::bindings);
        };
    };
}
