//! How good a policy is on questions it did not train on, and how sure one can be.
//!
//! Before: a policy or a server, and a benchmark. After: figures with intervals, the protocol that they were measured by, and
//! pages to read. [`benchmarks`] are known by name; [`Benchmark::evaluate`] samples and judges; [`Summary`] counts;
//! [`stats`] has the intervals; [`report`] writes.

mod accuracy;
mod at_k;
pub mod benchmarks;
mod evaluate;
mod grader;
mod protocol;
mod record;
pub mod report;
mod result;
mod rounds;
mod shots;
pub mod stats;
mod summary;

pub use accuracy::Accuracy;
pub use at_k::AtKRule;
pub use evaluate::{Benchmark, EvalError, Judged, Running, Speaker, Watch};
pub use grader::grader;
pub use protocol::{Adaptive, Protocol, Questions, Samples, Shots};
pub use record::{Parts, Question, Sample, SampleText};
pub use result::{Comparison, Cost, Evaluation, Model, Problems, Results, Runs};
pub use shots::{Shot, shots, with_shots};
pub use summary::{AtK, Bin, CONFIDENCE, Lengths, QuestionShare, Summary};
