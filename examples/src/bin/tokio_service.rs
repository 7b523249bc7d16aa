//! A cache service on tokio: framed requests over TCP, async operations of the store, a graceful shutdown.
//!
//! `cargo run -p rb-examples --bin tokio_service`
//!
//! The store knows no async runtime: its operations are futures that any executor polls. A request is an operation
//! (1 byte: get or put), the length of the key (2 bytes), the length of the value (4 bytes), key and value. A
//! response is a status (1 byte), a length (4 bytes) and as many bytes. Integers are little-endian.
#![expect(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const GET: u8 = 1;
const PUT: u8 = 2;

const DONE: u8 = 0;
const MISS: u8 = 1;
const FAILED: u8 = 2;

const CLIENTS: u8 = 4;
const BLOCKS: u8 = 16;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let class = ClassRequest {
        slot_bytes: 256 << 10,
        share: Share::Slots(128),
    };
    let format = FormatOptions::new(dir.path().join("cache"), vec![class]);
    let store = Store::open_or_create(&format, StoreOptions::default())?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(serve(listener, store.clone(), stopped));

    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(use_service(address, number));
    }
    for outcome in clients.join_all().await {
        outcome?;
    }

    // No new connections; requests under way are finished; then the store is closed.
    stop.send(true)?;
    let served = server.await??;
    store.close_async().await?;
    let requests = u64::from(CLIENTS) * (2 * u64::from(BLOCKS) + 1);
    println!("{served} requests of {CLIENTS} clients");
    assert_eq!(served, requests);

    let store = Store::open_or_create(&format, StoreOptions::default())?;
    assert!(store.recovery().clean);
    assert_eq!(
        store.recovery().entries,
        u64::from(CLIENTS) * u64::from(BLOCKS)
    );
    Ok(store.close()?)
}

/// Accepts connections until `stopped`. Returns the number of requests served.
async fn serve(
    listener: TcpListener,
    store: Store,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<u64> {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let (stream, _) = accepted?;
        connections.spawn(serve_connection(stream, store.clone(), stopped.clone()));
    }
    connections.join_all().await.into_iter().sum()
}

async fn serve_connection(
    stream: TcpStream,
    store: Store,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<u64> {
    let mut stream = BufReader::new(stream);
    let mut served = 0;
    loop {
        let operation = tokio::select! {
            operation = stream.read_u8() => operation,
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(served),
        };
        let operation = match operation {
            Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => return Ok(served),
            operation => operation?,
        };
        let key_len = stream.read_u16_le().await?;
        let value_len = u64::from(stream.read_u32_le().await?);
        if value_len > store.geometry().value_len_max() {
            // What follows cannot be skipped cheaply, so the connection ends.
            respond(&mut stream, FAILED, b"the value is too long").await?;
            return Ok(served);
        }
        let mut key = vec![0; usize::from(key_len)];
        stream.read_exact(&mut key).await?;
        let mut value = vec![0; value_len as usize];
        stream.read_exact(&mut value).await?;
        match operation {
            GET => match store.get_async(&key).await {
                Ok(Some(value)) => respond(&mut stream, DONE, &value).await?,
                Ok(None) => respond(&mut stream, MISS, &[]).await?,
                Err(why) => respond(&mut stream, FAILED, why.to_string().as_bytes()).await?,
            },
            PUT => match store.put_async(&key, &value).await {
                Ok(_) => respond(&mut stream, DONE, &[]).await?,
                Err(why) => respond(&mut stream, FAILED, why.to_string().as_bytes()).await?,
            },
            _ => respond(&mut stream, FAILED, b"no such operation").await?,
        }
        served += 1;
    }
}

async fn respond(stream: &mut BufReader<TcpStream>, status: u8, bytes: &[u8]) -> io::Result<()> {
    let mut frame = vec![status];
    frame.extend((bytes.len() as u32).to_le_bytes());
    frame.extend(bytes);
    stream.write_all(&frame).await
}

/// Puts blocks, gets them back, and asks for one that is not there.
async fn use_service(address: SocketAddr, number: u8) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let value = |block: u8| vec![number ^ block; 100_000 + usize::from(block)];
    for block in 0..BLOCKS {
        let response = request(&mut stream, PUT, &[number, block], &value(block)).await?;
        assert_eq!(response, (DONE, Vec::new()));
    }
    for block in 0..BLOCKS {
        let response = request(&mut stream, GET, &[number, block], &[]).await?;
        assert_eq!(response, (DONE, value(block)));
    }
    let response = request(&mut stream, GET, &[number, BLOCKS], &[]).await?;
    assert_eq!(response, (MISS, Vec::new()));
    Ok(())
}

async fn request(
    stream: &mut TcpStream,
    operation: u8,
    key: &[u8],
    value: &[u8],
) -> io::Result<(u8, Vec<u8>)> {
    let mut frame = vec![operation];
    frame.extend((key.len() as u16).to_le_bytes());
    frame.extend((value.len() as u32).to_le_bytes());
    frame.extend(key);
    frame.extend(value);
    stream.write_all(&frame).await?;
    let status = stream.read_u8().await?;
    let mut bytes = vec![0; stream.read_u32_le().await? as usize];
    stream.read_exact(&mut bytes).await?;
    Ok((status, bytes))
}
