//! A metrics exporter: a store under load, and its metrics for Prometheus over HTTP.
//!
//! `cargo run -p rb-examples --bin metrics_exporter -- /tmp/kv --port 9464`, then
//! `curl -s http://localhost:9464/metrics | promtool check metrics`
//!
//! With `--cut-after 10` the end of the store's file is cut off after 10 seconds. The store notices that with its next
//! commit and stops writing; gets work on. `docs/monitoring` has the metrics, and the alert that then fires.
#![expect(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Parser;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};
use rb_core::prometheus_client::encoding::prometheus_text;
use rb_core::prometheus_client::registry::Registry;
use rb_core::{
    ClassRequest, FormatOptions, Put, PutOptions, Share, Store, StoreMetrics, StoreOptions,
};
use tiny_http::{Header, Response, Server};

/// Blocks of a conversation; twice as many conversations as the store has room for.
const BLOCKS: usize = 8;
const CONVERSATIONS: u32 = 128;
const SLOTS: u64 = BLOCKS as u64 * CONVERSATIONS as u64 / 4;
/// Pause between two requests of the load.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Parser)]
struct Args {
    /// File of the store, made if it does not exist.
    store: PathBuf,
    /// Port on this host; 0 takes a free one.
    #[arg(long, default_value_t = 9464)]
    port: u16,
    /// Cuts the end of the store's file off after this many seconds, so that the store stops writing.
    #[arg(long, value_name = "SECONDS")]
    cut_after: Option<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let class = |slot_bytes| ClassRequest {
        slot_bytes,
        share: Share::Slots(SLOTS),
    };
    let format = FormatOptions {
        label: b"example".to_vec(),
        ..FormatOptions::new(&args.store, vec![class(16 << 10), class(64 << 10)])
    };
    let store = Store::open_or_create(&format, StoreOptions::default())?;

    let mut registry = Registry::default();
    registry.register_collector(Box::new(StoreMetrics::new(&store)));
    let server = Server::http((Ipv4Addr::LOCALHOST, args.port)).map_err(|why| why.to_string())?;
    println!("http://{}/metrics", server.server_addr());

    thread::spawn(move || load(&store));
    if let Some(seconds) = args.cut_after {
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(seconds));
            match cut(&args.store) {
                Ok(()) => println!("the store's file was cut"),
                Err(why) => println!("the store's file could not be cut: {why}"),
            }
        });
    }
    serve(&server, &registry)
}

/// Answers each request; only `/metrics` exists.
fn serve(server: &Server, registry: &Registry) -> Result<(), Box<dyn Error>> {
    let content_type = Header::from_bytes("Content-Type", prometheus_text::CONTENT_TYPE)
        .map_err(|()| "the content type is no header")?;
    for request in server.incoming_requests() {
        let response = match request.url() {
            "/metrics" => {
                let mut text = String::new();
                prometheus_text::encode(&mut text, registry)?;
                Response::from_string(text).with_header(content_type.clone())
            }
            _ => Response::from_string("see /metrics\n").with_status_code(404),
        };
        // A scraper that closed its connection is no reason to stop.
        drop(request.respond(response));
    }
    Ok(())
}

/// Looks up the blocks of one conversation after another, often of the same few, and puts those that are missing, as an
/// inference engine does. Ends when the store is closed.
fn load(store: &Store) -> Result<(), Box<dyn Error + Send + Sync>> {
    let popularity = Zipf::new(f64::from(CONVERSATIONS), 1.0)?;
    let mut random = SmallRng::seed_from_u64(1);
    loop {
        let conversation = popularity.sample(&mut random) as usize;
        let keys: Vec<String> = (0..BLOCKS)
            .map(|block| format!("{conversation}/{block}"))
            .collect();
        let names: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let block = vec![conversation as u8; [10_000, 60_000][conversation % 2]];
        let mut missing = Vec::new();
        for (found, name) in store.get_many(&names).into_iter().zip(&names) {
            match found {
                Ok(None) => missing.push(Put::new(name, &block)),
                Ok(Some(value)) => assert_eq!(value[..], block[..]),
                // Counted in `raw_block_failures_total`.
                Err(_) => {}
            }
        }
        if !missing.is_empty() {
            store.put_many(missing, PutOptions::default());
        }
        thread::sleep(PAUSE);
    }
}

/// Cuts off bytes at the end of the file, where no value is.
fn cut(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(file.metadata()?.len() - 4096)
}
