//! moto, and copies of it with all that is in an account.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Anything;

/// The Python that has moto.
fn python() -> Result<PathBuf, Anything> {
    let python = match std::env::var_os("MOTO_PYTHON") {
        Some(python) => python.into(),
        // Tests are built into `<target>/debug/deps`.
        None => std::env::current_exe()?
            .ancestors()
            .nth(3)
            .ok_or("the test is in no target folder")?
            .join("tools/moto[server]==5.2.5/bin/python"),
    };
    if !python.is_file() {
        return Err(format!(
            "{} is missing: `cargo xtask test --only test` brings moto",
            python.display()
        )
        .into());
    }
    Ok(python)
}

/// The first server; its copies end with it.
pub(crate) struct Moto {
    child: Child,
    pub(crate) cloud: Cloud,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Moto {
    /// Starts a server with an empty account.
    pub(crate) fn start(folder: &Path) -> Result<Moto, Anything> {
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/../../e2e/moto/server.py");
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = folder.join("moto.log");
        let output = std::fs::File::create(&log)?;
        let child = Command::new(python()?)
            .args([server, "-H", "127.0.0.1"])
            .args(["-p", &address.port().to_string()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut moto = Moto {
            child,
            cloud: Cloud { address },
        };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if moto.child.try_wait()?.is_some() || started.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(log)?;
                return Err(format!("moto does not start: {log}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(moto)
    }
}

/// An account on a server; it ends with its owner.
pub(crate) struct Cloud {
    pub(crate) address: SocketAddr,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It ends without an answer.
        let _ = self.ask("POST", "/moto-api/end", "s3", "");
    }
}

impl Cloud {
    /// Another account with the same in it.
    pub(crate) fn copy(&self) -> Result<Cloud, Anything> {
        let answer = self.ask("POST", "/moto-api/copy", "s3", "")?;
        let port = answer.lines().last().unwrap_or_default();
        let port: u16 = port
            .parse()
            .map_err(|error| format!("moto cannot be copied: {error}: {answer}"))?;
        Ok(Cloud {
            address: ([127, 0, 0, 1], port).into(),
        })
    }

    /// Asks the cloud itself, past the proxy.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        service: &str,
        body: &str,
    ) -> Result<String, Anything> {
        let mut cloud = TcpStream::connect(self.address)?;
        let form = match body {
            "" => "",
            _ => "content-type: application/x-www-form-urlencoded\r\n",
        };
        write!(
            cloud,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: AWS4-HMAC-SHA256 Credential=test/20261123/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n{form}content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut answer = String::new();
        cloud.read_to_string(&mut answer)?;
        // Some services put a space there, some do not.
        Ok(answer.replace("\": ", "\":"))
    }

    /// Every stack that is not deleted, with its status; and every bucket and every version of an
    /// object, without the random ends of buckets' names.
    pub(crate) fn account(&self) -> Result<(Vec<String>, Vec<String>), Anything> {
        let body = "Action=DescribeStacks&Version=2010-05-15";
        let stacks = self.ask("POST", "/", "cloudformation", body)?;
        let names = between(&stacks, "StackName");
        let mut living: Vec<String> = names
            .into_iter()
            .zip(between(&stacks, "StackStatus"))
            .filter(|(_, status)| status != "DELETE_COMPLETE")
            .map(|(name, status)| format!("{name} {status}"))
            .collect();
        living.sort();
        let mut objects = Vec::new();
        let buckets = self.ask("GET", "/", "s3", "")?;
        for bucket in between(&buckets, "Name") {
            let kind = bucket.rsplit_once('-').map_or("", |(kind, _)| kind);
            objects.push(format!("{kind}/"));
            let versions = self.ask("GET", &format!("/{bucket}?versions"), "s3", "")?;
            let keys = between(&versions, "Key").into_iter();
            objects.extend(keys.map(|key| format!("{kind}/{key}")));
        }
        objects.sort();
        Ok((living, objects))
    }

    /// Fails unless topic rules, event source mapping and function are as the template has them.
    pub(crate) fn check_sources(&self) -> Result<(), Anything> {
        let rules = self.ask("GET", "/rules", "iot", "")?;
        let mappings = self.ask("GET", "/2015-03-31/event-source-mappings/", "lambda", "")?;
        let functions = self.ask("GET", "/2015-03-31/functions/", "lambda", "")?;
        let off = [
            ("a topic rule", rules.contains("\"ruleDisabled\":true")),
            (
                "every topic rule",
                !rules.contains("\"ruleDisabled\":false"),
            ),
            (
                "the event source mapping",
                !mappings.contains("\"State\":\"Enabled\""),
            ),
            ("the function's network", !functions.contains("\"subnet-")),
        ];
        let off: Vec<&str> = off
            .into_iter()
            .filter_map(|(what, is_off)| is_off.then_some(what))
            .collect();
        if !off.is_empty() {
            return Err(format!("still switched off, or gone: {}", off.join(", ")).into());
        }
        Ok(())
    }
}

/// Texts between two tags of an answer.
fn between(answer: &str, tag: &str) -> Vec<String> {
    answer
        .split(&format!("<{tag}>"))
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned()))
        .collect()
}
