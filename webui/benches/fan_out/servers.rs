//! The servers that are compared, each started as a process of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::cache::{Cache, Channel};
use crate::process::{Process, free_port, is_up};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Webui,
    Naive,
    Bare,
    Bun,
    Nchan,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Webui, Self::Naive, Self::Bare, Self::Bun, Self::Nchan];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Webui => "webui",
            Self::Naive => "naive",
            Self::Bare => "bare",
            Self::Bun => "bun",
            Self::Nchan => "nchan",
        }
    }

    /// Why it cannot take part, if so.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let is_there = match self {
            Self::Webui | Self::Naive | Self::Bare => true,
            Self::Bun => Process::start(bun(), ["--version"], &[]).is_ok(),
            Self::Nchan => nchan_module().exists() && nginx_program().is_some(),
        };
        (!is_there).then_some(match self {
            Self::Bun => "there is no bun on the PATH or at $BUN: npm install bun",
            _ => {
                "there is no nginx on the PATH, or no module at $NCHAN: \
                  apt-get install nginx-light libnginx-mod-nchan"
            }
        })
    }
}

fn bun() -> PathBuf {
    env::var_os("BUN").map_or_else(|| "bun".into(), PathBuf::from)
}

/// nginx on the PATH, or where Debian puts it, which is not on every user's.
fn nginx_program() -> Option<&'static str> {
    let mut places = ["nginx", "/usr/sbin/nginx"].into_iter();
    places.find(|nginx| Process::start(nginx, ["-v"], &[]).is_ok())
}

fn nchan_module() -> PathBuf {
    let debian = "/usr/lib/nginx/modules/ngx_nchan_module.so";
    env::var_os("NCHAN").map_or_else(|| debian.into(), PathBuf::from)
}

/// A server that is ready.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) channel: Channel,
    process: Process,
    _source: Option<Box<Server>>,
    _folder: Option<TempDir>,
}

impl Server {
    /// Starts one on what the cache holds.
    pub(crate) fn start(kind: Kind, cache: &Cache) -> anyhow::Result<Self> {
        let address = free_port()?;
        let variables = [
            ("PORT", address.port().to_string()),
            ("INTERFACE", "127.0.0.1".to_owned()),
            ("REDIS_URL", cache.url()),
        ];
        let none: [&str; 0] = [];
        let myself = env::current_exe().context("find this very program")?;
        let mut source = None;
        let mut folder = None;
        let mut channel = Channel::Redis(cache.address);
        let process = match kind {
            Kind::Webui => Process::start(env!("CARGO_BIN_EXE_webui"), none, &variables),
            Kind::Naive => {
                let arguments = ["naive".to_owned(), address.to_string(), cache.url()];
                Process::start(myself, arguments, &[])
            }
            Kind::Bare => {
                let webui = source.insert(Box::new(Self::start(Kind::Webui, cache)?));
                let arguments = ["bare", &address.to_string(), &webui.address.to_string()];
                Process::start(myself, arguments, &[])
            }
            Kind::Bun => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/fan_out/bun.js");
                Process::start(bun(), [script], &variables)
            }
            Kind::Nchan => {
                channel = Channel::Http(address);
                let folder = folder.insert(tempfile::tempdir()?);
                let file = folder.path().join("nginx.conf");
                fs::write(&file, nginx(address))?;
                let arguments = [folder.path().as_os_str(), file.as_os_str()];
                let [folder, file] = arguments;
                let nginx = nginx_program().context("nginx is gone")?;
                Process::start(nginx, ["-p".as_ref(), folder, "-c".as_ref(), file], &[])
            }
        };
        let process = process.with_context(|| format!("start {}", kind.name()))?;
        is_up(address).with_context(|| format!("wait until {} listens", kind.name()))?;
        let server = Self {
            address,
            channel,
            process,
            _source: source,
            _folder: folder,
        };
        if kind == Kind::Webui {
            server.is_ready()?;
        }
        Ok(server)
    }

    /// The process that is measured.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn is_ready(&self) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while !self
            .get(contract::http::READY)?
            .starts_with("HTTP/1.1 200 ")
        {
            if Instant::now() > end {
                bail!("the dashboard server is not ready after ten seconds");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn nginx(address: SocketAddr) -> String {
    let module = nchan_module();
    format!(
        "daemon off;
worker_processes auto;
worker_rlimit_nofile 20000;
load_module {};
error_log stderr error;
pid nginx.pid;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  server {{
    listen {address};
    location = /publish {{
      nchan_publisher;
      nchan_channel_id sensors;
      nchan_message_buffer_length 1000;
    }}
    location = /ws {{
      nchan_subscriber websocket;
      nchan_channel_id sensors;
      nchan_subscriber_first_message newest;
    }}
  }}
}}
",
        module.display()
    )
}
