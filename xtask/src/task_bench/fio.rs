//! The upper limit: what fio moves through the same file, without a store.
//!
//! Its puts write to random positions, as those of a full store do: a slot is reused when it becomes free. (In
//! sequence, the block layer would merge neighbours, which measures the scheduler.) A second job flushes concurrently,
//! as often as this store does. fio's own `fdatasync=N` is unusable: with io_uring at depth 32, fio 3.33 sends about
//! twelve times as many flushes as asked, and with fixed buffers the kernel refuses all but a few of these (EINVAL,
//! because fio leaves a buffer's number in the request), which fio does not report. Seen with the kernel's trace points
//! `io_uring_submit_req` and `io_uring_req_failed`.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::case::{Case, Op};
use super::program::run;

/// Bytes that a slot has in addition to its payload.
const FORMAT_BLOCK: u64 = 4096;

/// Parameters of a run of fio.
pub(super) struct Fio<'a> {
    pub(super) engine: &'static str,
    pub(super) case: &'a Case,
    pub(super) file: &'a Path,
    pub(super) seconds: f64,
    /// Time between two flushes of puts: the same as this store's.
    pub(super) sync_interval_ms: f64,
}

impl Fio<'_> {
    /// Runs fio and returns its results in the fields of `rb bench`.
    ///
    /// fio's own count of its CPU time excludes the kernel's helper threads of the ring, which do all the work if the
    /// file cannot complete requests immediately (a file in memory); the accounting of the whole process includes them,
    /// as it does for every other store. Both are returned.
    pub(super) fn measure(&self) -> Result<Value, String> {
        let (output, cpu) = self.run(&[
            "--time_based",
            &format!("--runtime={}ms", (self.seconds * 1000.0).ceil()),
        ])?;
        // The CPU time of fio's start and end, which is significant in a run of few seconds.
        let (_, around) = self.run(&["--number_ios=1"])?;
        let job = &output["jobs"][0];
        let side = match self.case.op {
            Op::Get => &job["read"],
            Op::Put => &job["write"],
        };
        let number = |value: &Value, what: &str| {
            let missing = || format!("fio does not report {what}: {job}");
            value.as_f64().ok_or_else(missing)
        };
        let ops = number(&side["total_ios"], "total_ios")?;
        let seconds = number(&side["runtime"], "runtime")? / 1000.0;
        let gigabytes = ops * self.case.value_bytes as f64 / 1e9;
        let mut own = 0.0;
        for job in output["jobs"].as_array().into_iter().flatten() {
            let percent = number(&job["usr_cpu"], "usr_cpu")? + number(&job["sys_cpu"], "sys_cpu")?;
            own += percent / 100.0 * number(&job["job_runtime"], "job_runtime")? / 1000.0;
        }
        let percentile = |name| side["lat_ns"]["percentile"][name].as_f64();
        Ok(json!({
            "op": self.case.op.name(),
            "engine": self.engine,
            "value_bytes": self.case.value_bytes,
            "block_bytes": self.block_bytes(),
            "depth": self.case.depth,
            "sync_interval_ms": self.sync_interval_ms,
            "flushes_per_s": output["jobs"][1]["write"]["iops"],
            "gbps": gigabytes / seconds,
            "ops_per_s": ops / seconds,
            "p50_us": percentile("50.000000").map(|ns| ns / 1000.0),
            "p99_us": percentile("99.000000").map(|ns| ns / 1000.0),
            "cpu_s_per_gb": own / gigabytes,
            "cpu_s_per_gb_process": (cpu - around).max(0.0) / gigabytes,
        }))
    }

    fn block_bytes(&self) -> u64 {
        match self.case.op {
            Op::Get => self.case.value_bytes,
            Op::Put => self.case.value_bytes + FORMAT_BLOCK,
        }
    }

    /// Runs fio until `end`; returns its JSON, and the user and system seconds of all its processes.
    fn run(&self, end: &[&str]) -> Result<(Value, f64), String> {
        // Uses the shell's accounting of its children, because the standard library has none.
        let mut command = Command::new("sh");
        command.args(["-c", r#""$@" || exit; times >&2"#, "sh", "fio"]);
        let file = format!("--filename={}", self.file.display());
        // Global options, since they come before a job's name.
        command
            .args(["--direct=1", "--allow_file_create=0", &file])
            .args(end);
        command.args(["--output-format=json", "--lat_percentiles=1"]);
        command.args(["--name=bench", "--norandommap", "--randrepeat=0"]);
        command.arg(format!("--bs={}", self.block_bytes()));
        command.arg(format!("--ioengine={}", self.engine));
        if self.engine == "io_uring" {
            command.args(["--fixedbufs", "--registerfiles", "--hipri=0"]);
            command.arg(format!("--iodepth={}", self.case.depth));
        }
        if self.case.op == Op::Get {
            command.arg("--rw=randread");
        } else {
            let per_second = (1000.0 / self.sync_interval_ms).ceil().max(1.0);
            command.args(["--rw=randwrite", "--name=flush", "--rw=write", "--bs=4k"]);
            command.args(["--size=4k", "--ioengine=psync", "--fdatasync=1"]);
            command.arg(format!("--rate_iops={per_second}"));
        }
        let (stdout, stderr) = run(&mut command, self.seconds)?;
        let start = stdout.find('{').unwrap_or_default();
        let output = serde_json::from_str(&stdout[start..]);
        let cpu = children_seconds(&stderr).ok_or_else(|| format!("sh: no times: {stderr}"))?;
        Ok((output.map_err(|why| format!("fio: {why}"))?, cpu))
    }
}

/// Returns the seconds in the second of the two lines that `times` prints, such as `0m0.210000s 0m1.030000s`.
fn children_seconds(text: &str) -> Option<f64> {
    let seconds = |word: &str| {
        let (minutes, seconds) = word.strip_suffix('s')?.split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    };
    let mut words = text.lines().last()?.split_whitespace();
    Some(seconds(words.next()?)? + seconds(words.next()?)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_of_the_children() {
        let text = "0m0.50s 0m0.25s\n1m0.210000s 0m1.030000s\n";
        assert_eq!(super::children_seconds(text), Some(61.24));
    }
}
