//! `bench quality` and `bench quality-compare`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::app::Core;
use crate::cli::output;
use crate::cli::serve::stop_on_signal;
use crate::config::Config;
use crate::domain::{Fusion, RerankMode, RetrievalMode, limits};
use crate::error::{Error, Result};
use crate::ingest::Progress;
use crate::tools::bench::quality::{self, Dataset, Earlier, Layout, Pairing, Plan, Report, Run, Selection};
use crate::tools::bench::{write_json, write_text};

/// Ranking quality and latency on a labelled collection in BEIR layout, which is ingested into --db first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  amalfa bench quality --db scifact.db --dataset scifact
  amalfa bench quality --db scifact.db --dataset scifact --retrieval dense,hybrid --rerank none,late_interaction \\
    --output quality.json --runs-dir runs --markdown quality.md
  amalfa bench quality --db scifact.db --dataset scifact --compare-to quality.json

Exit code 3 when a combination could not be run or a document not be indexed; the others are reported.")]
pub(super) struct Quality {
    /// Folder with corpus.jsonl, queries.jsonl, and qrels.tsv or qrels/test.tsv
    #[arg(long, value_name = "DIR")]
    dataset: PathBuf,
    /// How candidates are found: dense, lexical, hybrid
    #[arg(long, value_delimiter = ',', value_parser = word::<RetrievalMode>, default_value = "dense,lexical,hybrid")]
    retrieval: Vec<RetrievalMode>,
    /// How they are put in order: none, late_interaction, cross_encoder, llm, cascade, or all
    #[arg(long, value_delimiter = ',', value_parser = reranks, default_value = "none,late_interaction")]
    rerank: Vec<Reranks>,
    /// How the lists of a hybrid search become one: convex, rrf [default: search.fusion]
    #[arg(long, value_delimiter = ',', value_parser = word::<Fusion>)]
    fusion: Vec<Fusion>,
    /// Passages that a reranker is given, 1 to 2000
    #[arg(long, default_value_t = limits::CANDIDATES_DEFAULT)]
    candidates: usize,
    /// Milliseconds that reranking may take [default: as long as it takes]
    #[arg(long, value_name = "MS")]
    rerank_time_max: Option<u64>,
    /// Only the first N judged queries
    #[arg(long, value_name = "N")]
    queries: Option<usize>,
    /// The combination that the others are compared to [default: the first]
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Compare to the combinations of an earlier --output as well
    #[arg(long, value_name = "FILE")]
    compare_to: Option<PathBuf>,
    /// Write the report here, as JSON
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the tables here, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the rankings here, as NAME.run and qrels.txt for trec_eval
    #[arg(long, value_name = "DIR")]
    runs_dir: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Quality {
    pub async fn run(self, config: Config) -> Result<ExitCode> {
        let dataset = Dataset::load(&self.dataset, self.queries)?;
        let plan = self.plan()?;
        plan.check(&dataset)?;
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone())?;
        match measure(&config, &dataset, &plan, &stop).await {
            Err(Error::Cancelled) => {
                eprintln!("interrupted; run it again: what is in the database stays");
                Ok(ExitCode::from(130))
            }
            measured => self.finish(&measured?),
        }
    }

    fn plan(&self) -> Result<Plan> {
        let rerank = self.rerank.iter().flat_map(|reranks| reranks.0.iter().copied()).collect();
        let selection = Selection { retrieval: self.retrieval.clone(), fusion: self.fusion.clone(), rerank };
        Ok(Plan {
            selection,
            candidates: self.candidates,
            rerank_time_max: self.rerank_time_max.map(Duration::from_millis),
            baseline: self.baseline.clone(),
            earlier: self.compare_to.as_deref().map(Earlier::load).transpose()?,
            runs_dir: self.runs_dir.clone(),
        })
    }

    fn finish(&self, report: &Report) -> Result<ExitCode> {
        if let Some(file) = &self.output {
            write_json(file, report)?;
        }
        if let Some(file) = &self.markdown {
            write_text(file, &report.text(Layout::Markdown), "choose another --markdown")?;
        }
        match self.json {
            true => output::json(report)?,
            false => output::line(format_args!("{}", report.text(Layout::Terminal).trim_end())),
        }
        Ok(match (report.combinations.is_empty(), report.failed.len() + report.corpus.documents_failed) {
            (true, _) => ExitCode::from(1),
            (false, 0) => ExitCode::SUCCESS,
            (false, _) => ExitCode::from(3),
        })
    }
}

/// What the query cache may hold: enough for the stages of one search to share a query, far too little to bring it over to
/// the next combination, which asks the same queries and would be timed without the model.
const QUERY_CACHE_BYTES_MAX: usize = 256 << 10;

async fn measure(config: &Config, dataset: &Dataset, plan: &Plan, stop: &CancellationToken) -> Result<Report> {
    let mut config = config.clone();
    config.model.query_cache_bytes = config.model.query_cache_bytes.min(QUERY_CACHE_BYTES_MAX);
    let core = Core::build(&config).await?;
    let measured = measure_on(&core, &config, dataset, plan, stop).await;
    // What was ingested is kept whatever became of the measuring.
    let closed = core.close().await;
    let report = measured?;
    closed.map(|()| report)
}

async fn measure_on(
    core: &Core,
    config: &Config,
    dataset: &Dataset,
    plan: &Plan,
    stop: &CancellationToken,
) -> Result<Report> {
    let ingesting = Bar::new("ingest", dataset.documents.len() as u64);
    let corpus = quality::index(core, dataset, Arc::new(ingesting), stop).await?;
    let searching = Bar::new("search", (plan.selection.combinations().len() * dataset.queries.len()) as u64);
    let run = Run { core, config, dataset, corpus, plan, stop };
    run.measure(|name| searching.searched(name)).await
}

/// Compares two outputs of `bench quality` query by query: a paired bootstrap over the queries that both have
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  amalfa bench quality-compare before.json after.json
  amalfa bench quality-compare quality.json quality.json --from dense --to hybrid
  amalfa bench quality-compare theirs.run runs/hybrid.run --qrels runs/qrels.txt")]
pub(super) struct QualityCompare {
    /// The output compared to
    first: PathBuf,
    /// The output that is compared
    second: PathBuf,
    /// The combination of the first [default: those that both have]
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// The combination of the second
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// Read both as TREC run files and judge them by this file
    #[arg(long, value_name = "FILE")]
    qrels: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl QualityCompare {
    pub fn run(self) -> Result<ExitCode> {
        let judgements = self.qrels.as_deref().map(quality::judgements).transpose()?;
        let load = |path: &Path| match &judgements {
            Some(judgements) => Earlier::load_run(path, judgements),
            None => Earlier::load(path),
        };
        let pairing = Pairing { from: self.from.as_deref(), to: self.to.as_deref() };
        let differences = quality::compare(&load(&self.first)?, &load(&self.second)?, pairing)?;
        match self.json {
            true => output::json(&differences.into_iter().collect::<std::collections::BTreeMap<_, _>>())?,
            false => output::line(format_args!("{}", quality::differences(&differences, Layout::Terminal).trim_end())),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One word of `--rerank`: a mode, or all of them.
#[derive(Debug, Clone)]
struct Reranks(Vec<RerankMode>);

fn reranks(text: &str) -> Result<Reranks, String> {
    use RerankMode::{Cascade, CrossEncoder, LateInteraction, Llm, None};
    match text {
        "all" => Ok(Reranks(vec![None, LateInteraction, CrossEncoder, Llm, Cascade])),
        text => word(text).map(|mode| Reranks(vec![mode])),
    }
}

/// Reads one of the words that the domain's types have in JSON; the error lists them.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|error| error.to_string())
}

/// A progress bar on a terminal, nothing elsewhere.
struct Bar(ProgressBar);

impl Bar {
    fn new(what: &'static str, length: u64) -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(length), target).with_message(what);
        let template = "{msg:30} {bar:30} {pos}/{len}  {per_sec}  {eta}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    fn searched(&self, name: &str) {
        self.0.inc(1);
        if self.0.message() != name {
            self.0.set_message(name.to_owned());
        }
    }
}

impl Progress for Bar {
    fn done(&self, _source: &str) {
        self.0.inc(1);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
