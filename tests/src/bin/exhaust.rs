//! Temporary.
use rb_tests::exhaust::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let n: usize = args[1].parse().unwrap();
    let among: Vec<Operation> = if args.len() > 2 && args[2] != "all" {
        args[2].split(',').map(|s| s.parse().unwrap()).collect()
    } else {
        Operation::all()
    };
    let initial = args.get(3).map(|s| s.parse().unwrap());
    let options = Options {
        operations: n,
        among,
        initial,
        seed: None,
        time: None,
        threads: 2,
    };
    let report = run(&options, |r| {
        if r.complete % 20 == 0 {
            eprint!(
                "\r{}/{} {} exec {} states {} points {} images {} distinct",
                r.complete, r.configs, r.executions, r.states, r.points, r.images, r.distinct
            )
        }
    })
    .unwrap();
    eprintln!();
    let mut r = report.clone();
    r.violation = None;
    println!("{r:?}");
    if let Some(v) = report.violation {
        println!("{}\n{}", v.what, v.options);
        for s in v.story {
            println!("{s}");
        }
    }
}
