//! What stands between the program and the cloud: it names and counts the calls, and strikes the
//! program down at one of them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// One call to AWS. Calls that are made at the same time come in any order, so a call is known by
/// what it asks for and not by its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Service and action, or service, method and path.
    pub(crate) name: String,
    /// Of the calls of this name, from 1.
    pub(crate) nth: usize,
}

impl Call {
    /// Whether the account may be another one afterwards.
    pub(crate) fn changes(&self) -> bool {
        let reads = ["Describe", "Get", "List", "GET", "HEAD"];
        let action = self.name.split(' ').nth(1).unwrap_or_default();
        !reads.iter().any(|verb| action.starts_with(verb))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} of `{}`", self.nth, self.name)
    }
}

/// How a program is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Kill,
    /// What Ctrl-C sends.
    Interrupt,
}

/// When the program is struck.
#[derive(Clone, Debug)]
pub(crate) enum Moment {
    Never,
    /// The call has arrived, and the cloud never sees it.
    Before(Call),
    /// The cloud has answered the call, and the program never hears of it.
    After(Call),
    /// So long after the program's start, for 0, or after the call of this number.
    Soon(usize, Duration, Signal),
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Never => write!(f, "left alone"),
            Moment::Before(call) => write!(f, "killed before {call}"),
            Moment::After(call) => write!(f, "killed after {call}"),
            Moment::Soon(number, delay, signal) => {
                let verb = match signal {
                    Signal::Kill => "killed",
                    Signal::Interrupt => "interrupted",
                };
                write!(f, "{verb} {delay:?} after call number {number}")
            }
        }
    }
}

/// A program that runs behind a proxy.
pub(crate) struct Victim {
    child: Mutex<Child>,
}

impl Victim {
    pub(crate) fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("nobody panics")
    }

    /// Sends the signal, unless the program has ended.
    fn strike(&self, signal: Signal) {
        let mut child = self.child();
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        match signal {
            Signal::Kill => drop(child.kill()),
            Signal::Interrupt => {
                // It has not been waited for, so the number is still its own.
                let _ = Command::new("kill")
                    .args(["-INT", &child.id().to_string()])
                    .stderr(Stdio::null())
                    .status();
            }
        }
    }
}

/// A proxy for one run of a program: what the program has sent when it is struck reaches the cloud
/// before the run's end, or never.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    cloud: SocketAddr,
    moment: Moment,
    run: Mutex<Run>,
    passed: Condvar,
}

#[derive(Default)]
struct Run {
    victim: Option<Arc<Victim>>,
    calls: Vec<Call>,
    counts: BTreeMap<String, usize>,
    /// The call at which the program was struck.
    struck: Option<Call>,
    under_way: usize,
    is_over: bool,
}

/// What the proxy has seen of a run.
pub(crate) struct Seen {
    pub(crate) calls: Vec<Call>,
    /// The call itself, or the last one before a random moment.
    pub(crate) struck: Option<Call>,
}

impl Proxy {
    pub(crate) fn start(cloud: SocketAddr, moment: Moment) -> std::io::Result<Arc<Proxy>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Arc::new(Proxy {
            address: listener.local_addr()?,
            cloud,
            moment,
            run: Mutex::default(),
            passed: Condvar::new(),
        });
        let shared = Arc::clone(&proxy);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.run().is_over {
                    return;
                }
                let proxy = Arc::clone(&shared);
                // A connection that breaks is the program's end, or its own affair.
                std::thread::spawn(move || proxy.pass(stream).ok());
            }
        });
        Ok(proxy)
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().expect("nobody panics")
    }

    /// Starts the program.
    pub(crate) fn spawn(&self, command: &mut Command) -> std::io::Result<Arc<Victim>> {
        // Held until the victim is known: its first call may come at once.
        let mut run = self.run();
        let child = command.spawn()?;
        let victim = Arc::new(Victim {
            child: Mutex::new(child),
        });
        run.victim = Some(Arc::clone(&victim));
        self.strike_soon(&mut run);
        Ok(victim)
    }

    /// What was seen of a program that has ended, once no call of it is under way any more.
    pub(crate) fn end(&self) -> Seen {
        let mut run = self
            .passed
            .wait_while(self.run(), |run| run.under_way > 0)
            .expect("nobody panics");
        run.is_over = true;
        // So that the thread that listens looks.
        let _ = TcpStream::connect(self.address);
        Seen {
            calls: std::mem::take(&mut run.calls),
            struck: run.struck.take(),
        }
    }

    /// Passes one call on; every answer closes its connection.
    fn pass(&self, mut client: TcpStream) -> std::io::Result<()> {
        let Some((name, request)) = read_request(&mut client)? else {
            return Ok(());
        };
        let call = {
            let mut run = self.run();
            if run.is_over {
                return Ok(());
            }
            let count = run.counts.entry(name.clone()).or_default();
            *count += 1;
            let call = Call { name, nth: *count };
            run.calls.push(call.clone());
            run.under_way += 1;
            self.strike_soon(&mut run);
            call
        };
        let passed = self.pass_on(client, &call, &request);
        self.run().under_way -= 1;
        self.passed.notify_all();
        passed
    }

    fn pass_on(&self, mut client: TcpStream, call: &Call, request: &[u8]) -> std::io::Result<()> {
        if matches!(&self.moment, Moment::Before(it) if it == call) {
            self.strike(call);
            return client.shutdown(Shutdown::Both);
        }
        let mut cloud = TcpStream::connect(self.cloud)?;
        cloud.write_all(request)?;
        let mut answer = Vec::new();
        cloud.read_to_end(&mut answer)?;
        if matches!(&self.moment, Moment::After(it) if it == call) {
            self.strike(call);
            return client.shutdown(Shutdown::Both);
        }
        client.write_all(&answer)?;
        client.shutdown(Shutdown::Both)
    }

    fn strike(&self, call: &Call) {
        let mut run = self.run();
        run.struck = Some(call.clone());
        if let Some(victim) = &run.victim {
            victim.strike(Signal::Kill);
        }
    }

    /// Lets the clock of a random moment run, when the last call is the one from which it runs.
    fn strike_soon(&self, run: &mut Run) {
        let Moment::Soon(from, delay, signal) = self.moment else {
            return;
        };
        if from == run.calls.len()
            && let Some(victim) = run.victim.clone()
        {
            run.struck = run.calls.last().cloned();
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                victim.strike(signal);
            });
        }
    }
}

/// Name and bytes of a request, asking for the connection to be closed; `None` when there is none.
fn read_request(client: &mut TcpStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut request = Vec::new();
    let mut first = String::new();
    let mut service = String::new();
    let mut length = 0;
    let mut is_chunked = false;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if lower.starts_with("authorization:") {
            // …Credential=KEY/DATE/REGION/SERVICE/aws4_request, …
            service = lower.split('/').nth(3).unwrap_or_default().to_owned();
        }
        is_chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
        if lower.starts_with("expect:") {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            continue;
        }
        if line == "\r\n" {
            request.extend(b"connection: close\r\n\r\n");
            break;
        }
        if !lower.starts_with("connection:") {
            request.extend(line.as_bytes());
        }
    }
    let head = request.len();
    if is_chunked {
        read_chunks(&mut reader, &mut request)?;
    } else {
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        request.extend(body);
    }
    let name = name(&service, &first, &request[head..]);
    Ok(Some((name, request)))
}

fn read_chunks(reader: &mut impl BufRead, request: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        request.extend(line.as_bytes());
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size > 0 {
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            request.extend(chunk);
            continue;
        }
        // Trailers, up to an empty line.
        loop {
            let mut line = String::new();
            let read = reader.read_line(&mut line)?;
            request.extend(line.as_bytes());
            if read == 0 || line == "\r\n" {
                return Ok(());
            }
        }
    }
}

/// `cloudformation DescribeStacks sensors-dev` or `s3 GET /sensors-dev-archivebucket-*/?versions`.
fn name(service: &str, first: &str, body: &[u8]) -> String {
    let body = std::str::from_utf8(body).unwrap_or_default();
    let field = |wanted: &str| {
        let mut fields = body.split('&').filter_map(|field| field.split_once('='));
        fields.find_map(|(name, value)| (name == wanted).then_some(value))
    };
    if let Some(action) = field("Action") {
        // A stack may be named by its ARN: only the name is the same in every run.
        let stack = field("StackName").unwrap_or_default();
        let stack = stack.split("%2F").nth(1).unwrap_or(stack);
        return format!("{service} {action} {stack}").trim_end().to_owned();
    }
    let mut words = first.split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    format!("{service} {method} {}", without_random_parts(path))
}

/// A path with `*` for what differs from run to run: the random ends of names, UUIDs and hashes.
fn without_random_parts(path: &str) -> String {
    let is_word = |it: char| it.is_ascii_alphanumeric() || it == '-';
    let mut plain = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = rest.find(|it| !is_word(it)).unwrap_or(rest.len());
        let groups: Vec<&str> = rest[..end].split('-').collect();
        let is_uuid = groups.iter().map(|it| it.len()).eq([8, 4, 4, 4, 12]);
        let known = |group: &&str| match group.len() {
            12 | 32 => "*".to_owned(),
            _ => (*group).to_owned(),
        };
        plain.push_str(&match is_uuid {
            true => "*".to_owned(),
            false => groups.iter().map(known).collect::<Vec<_>>().join("-"),
        });
        let next = rest[end..].chars().next();
        plain.extend(next);
        rest = &rest[end + next.map_or(0, char::len_utf8)..];
    }
    plain
}
