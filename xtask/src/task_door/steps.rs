//! The steps, in their order.

use std::time::Duration;

use super::plan::{Host, Plan};
use super::runner::Runner;
use super::wheels;
use crate::run::cargo;
use crate::task_wheel::Environment;

const MINUTE: Duration = Duration::from_mins(1);

/// Kills of each engine during its random operations. A restart takes as long as its imports.
const KILLS: &str = "5";
const KILLS_QUICK: &str = "2";

/// Versions of LMCache that the adapter supports, other than the newest, which has all tests.
const OTHERS: [&str; 2] = ["lmcache==0.5.5", "lmcache==0.5.6"];

pub(super) fn run(plan: &Plan, tools: &Environment, runner: &mut Runner<'_>) -> Result<(), String> {
    wheels::run(plan, tools, runner)?;
    let hosts = runner.door.hosts()?;
    let names: Vec<&str> = plan.hosts.iter().map(|host| host.name()).collect();
    runner.program("own", &hosts, "own", &names, 20 * MINUTE)?;
    let minutes = plan.minutes.to_string();
    let soak = MINUTE.mul_f64(2.0 * plan.minutes) + 10 * MINUTE;
    for name in &names {
        let step = format!("{name}/soak");
        let kills = if plan.quick { KILLS_QUICK } else { KILLS };
        let args = ["--host", name, "--minutes", &minutes, "--kills", kills];
        runner.program(&step, &hosts, "soak", &args, soak)?;
    }
    for name in &names {
        let step = format!("{name}/faults");
        runner.program(&step, &hosts, "faults", &["--host", name], 10 * MINUTE)?;
    }
    let lmcache = plan.hosts.contains(&Host::Lmcache);
    if plan.quick {
        leave_out(plan, runner);
        return Ok(());
    }
    for name in &names {
        let step = format!("{name}/speed");
        runner.program(&step, &hosts, "speed", &["--host", name], 15 * MINUTE)?;
    }
    if lmcache {
        for target in ["loop", "disk"] {
            let step = format!("lmcache/peers/{target}");
            if runner.wants(&step) {
                cargo(&["build", "--release", "--quiet", "--package", "rb-cli"])?;
                let args = ["--target", target, "--rb", "target/release/rb"];
                runner.program(&step, &hosts, "peers", &args, 15 * MINUTE)?;
            }
        }
        let folder = runner.door.folder.join("upstream");
        let (uv, cache) = runner.door.uv_paths();
        let paths = [&folder, &uv, &cache].map(|path| path.to_string_lossy().into_owned());
        let args = paths.each_ref().map(String::as_str);
        runner.program("lmcache/upstream", &hosts, "upstream", &args, 20 * MINUTE)?;
        runner.program("lmcache/server", &hosts, "server", &[], 15 * MINUTE)?;
        for other in OTHERS {
            let step = format!("matrix/{}", other.replace("==", "-"));
            if runner.wants(&step) {
                match runner.door.other(&hosts, other) {
                    Ok(python) => {
                        let args = ["--as", &step, "lmcache"];
                        runner.program(&step, &python, "own", &args, 10 * MINUTE)?;
                    }
                    Err(why) => runner.fail(&step, &why),
                }
            }
        }
    }
    if plan.hosts.contains(&Host::Vllm) {
        runner.program("vllm/model", &hosts, "model", &[], 20 * MINUTE)?;
    }
    Ok(())
}

/// Names what the quick form leaves out.
fn leave_out(plan: &Plan, runner: &mut Runner<'_>) {
    const WHY: &str = "left out by --quick";
    for host in &plan.hosts {
        let name = host.name();
        runner.skip(&format!("{name}/speed"), WHY);
        match host {
            Host::Lmcache => {
                runner.skip("lmcache/peers", WHY);
                runner.skip("lmcache/upstream", WHY);
                runner.skip("lmcache/server", WHY);
                for other in OTHERS {
                    runner.skip(&format!("matrix/{}", other.replace("==", "-")), WHY);
                }
            }
            Host::Vllm => runner.skip("vllm/model", WHY),
            Host::Sglang => {}
        }
    }
}
