//! A TCP proxy that delays and counts round trips.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Time by which the system's sleep may be late; the rest is waited actively.
const SLACK: Duration = Duration::from_micros(70);

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    round_trips: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts a proxy for `server` that delays requests by `delay`, and the first request of a connection by
    /// twice as much: connecting takes a round trip on a network, but not to a proxy on the same machine.
    /// It runs until this program ends.
    pub(crate) fn start(server: SocketAddr, delay: Duration) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let round_trips = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&round_trips);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if let Ok(server) = TcpStream::connect(server) {
                    let _ = join(client, server, delay, &counter);
                }
            }
        });
        Ok(Self {
            address,
            round_trips,
        })
    }

    /// Number of round trips: requests that followed a response.
    pub(crate) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }
}

fn join(
    mut client: TcpStream,
    mut server: TcpStream,
    delay: Duration,
    round_trips: &Arc<AtomicU64>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut to_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let answered = Arc::new(AtomicBool::new(true));
    let (hold, held) = channel::<(Instant, Vec<u8>)>();
    let (counter, asked) = (Arc::clone(round_trips), Arc::clone(&answered));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        let mut connecting = delay;
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            let due = Instant::now() + delay + std::mem::take(&mut connecting);
            if asked.swap(false, Ordering::Relaxed) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            if hold.send((due, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, piece) in held {
            wait_until(due);
            if to_server.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            answered.store(true, Ordering::Relaxed);
            if to_client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn wait_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now() + SLACK));
    while Instant::now() < due {
        std::thread::yield_now();
    }
}
