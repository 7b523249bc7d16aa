//! Temporary.
use rb_tests::exhaust::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let n: usize = args[1].parse().unwrap();
    let among: Vec<Operation> = if args.len() > 2 {
        args[2].split(',').map(|s| s.parse().unwrap()).collect()
    } else {
        Operation::all()
    };
    let options = Options {
        operations: n,
        among,
        time: None,
        threads: 2,
    };
    let report = run(&options, |r| {
        eprint!(
            "\r{}/{} {} exec {} states {} points {} images {} distinct",
            r.complete, r.configs, r.executions, r.states, r.points, r.images, r.distinct
        )
    })
    .unwrap();
    eprintln!();
    let mut r = report.clone();
    r.violation = None;
    println!("{r:?}");
    if let Some(v) = report.violation {
        println!("{}\n{} {:?}", v.what, v.config, v.schedule);
        for s in v.story {
            println!("{s}");
        }
    }
}
