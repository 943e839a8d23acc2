//! The deployment against a judge that we did not write: moto's CloudFormation and S3, with the gaps
//! mended that `e2e/moto` names. From an empty account to an empty account.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

type Anything = Box<dyn std::error::Error>;

/// moto on a free port; it ends with the test.
struct Moto {
    child: Child,
    endpoint: String,
    folder: tempfile::TempDir,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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

impl Moto {
    fn start() -> Result<Moto, Anything> {
        let folder = tempfile::tempdir()?;
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/../../e2e/moto/server.py");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let log = std::fs::File::create(folder.path().join("moto.log"))?;
        let child = Command::new(python()?)
            .args([server, "-H", "127.0.0.1", "-p", &port.to_string()])
            // The account is this test's own; nothing outside is asked.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut moto = Moto {
            child,
            endpoint: format!("http://127.0.0.1:{port}"),
            folder,
        };
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if moto.child.try_wait()?.is_some() || started.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(moto.folder.path().join("moto.log"))?;
                return Err(format!("moto does not start: {log}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        moto.write("function", "first")?;
        // Larger than one part, so that it is uploaded in several.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            // xorshift64: nothing that a zip could make smaller.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 56) as u8
        })
        .take(9_500_000)
        .collect();
        std::fs::write(moto.path("webui"), noise)?;
        Ok(moto)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, contents: &str) -> Result<(), Anything> {
        Ok(std::fs::write(self.path(name), contents)?)
    }

    /// Runs our program and returns its JSON lines.
    fn run(&self, arguments: &[&str]) -> Result<Vec<Json>, Anything> {
        let output = self.output(arguments)?;
        let (out, error) = (
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        );
        if !output.status.success() {
            return Err(format!("{arguments:?}: {out}{error}").into());
        }
        Ok(out
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?)
    }

    fn output(&self, arguments: &[&str]) -> Result<Output, Anything> {
        Ok(Command::new(env!("CARGO_BIN_EXE_xtask-aws"))
            .args(arguments)
            .env_clear()
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .output()?)
    }

    fn deploy(&self, more: &[&str]) -> Result<Vec<Json>, Anything> {
        let [function, webui, lock] =
            ["function", "webui", "lock.json"].map(|name| self.path(name).display().to_string());
        let mut arguments = vec!["deploy", "--yes", "--no-smoke", "--json", "--poll", "20"];
        arguments.extend(["--function", &function, "--webui", &webui, "--lock", &lock]);
        arguments.extend(more);
        self.run(&arguments)
    }

    /// Asks moto itself; the signature only says which service is meant.
    fn ask(&self, method: &str, path: &str, service: &str, body: &str) -> Result<String, Anything> {
        let host = self.endpoint.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(host)?;
        // Services that are asked by paths find nothing for a form.
        let form = match body.starts_with("Action=") {
            true => "content-type: application/x-www-form-urlencoded\r\n",
            false => "",
        };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: AWS4-HMAC-SHA256 Credential=test/20261123/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n{form}content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        // Some services put a space there, some do not.
        Ok(answer.replace("\": ", "\":"))
    }

    fn destroy(&self, more: &[&str]) -> Result<Vec<Json>, Anything> {
        let arguments = ["destroy", "--yes", "--json", "--poll", "20"];
        self.run(&[&arguments, more].concat())
    }
}

/// The last line's result.
fn result(told: &[Json]) -> &str {
    let last = told.last().and_then(|line| line["result"].as_str());
    last.unwrap_or("nothing")
}

/// How many artifacts were uploaded.
fn uploads(told: &[Json]) -> usize {
    told.iter().filter(|line| line["uploaded"] == true).count()
}

/// Logical IDs that a plan of the main stack names, with what happens to each.
fn changes(told: &[Json]) -> Vec<(String, String)> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    told.iter()
        .filter(|line| line["stack"] == "sensors-dev")
        .filter_map(|line| line["changes"]["resources"].as_array())
        .flatten()
        .map(|it| (text(&it["id"]), text(&it["action"])))
        .collect()
}

#[test]
fn doctor_finds_the_account_and_misses_what_builds() -> Result<(), Anything> {
    let moto = Moto::start()?;
    // No PATH, so neither cargo-lambda nor Rust is there.
    let output = moto.output(&["doctor", "--json"])?;
    let told = String::from_utf8(output.stdout)?;
    let mut checks = Vec::new();
    let mut failure = Json::Null;
    for line in told.lines() {
        let line: Json = serde_json::from_str(line)?;
        match line["check"].as_str() {
            Some(name) => checks.push((name.to_owned(), line["ok"] == true)),
            None => failure = line,
        }
    }
    let expected = [
        ("template", true),
        // `cargo xtask deploy` brings it.
        ("cargo-lambda", true),
        ("build target", false),
        ("region", true),
        ("credentials", true),
        ("bootstrap", true),
        ("platform", true),
        ("networks (VPCs)", true),
    ];
    assert_eq!(checks, expected.map(|(name, ok)| (name.to_owned(), ok)));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(failure["result"], "failed", "{told}");
    assert!(told.contains("`deploy` installs it"), "{told}");
    assert!(told.contains("rustup target add"), "{told}");
    Ok(())
}

#[test]
fn stage_comes_up_stays_changes_and_goes() -> Result<(), Anything> {
    let moto = Moto::start()?;

    let told = moto.deploy(&[])?;
    assert_eq!(result(&told), "deployed");
    assert_eq!(uploads(&told), 2);
    let lock: Json = serde_json::from_slice(&std::fs::read(moto.path("lock.json"))?)?;
    // The web UI's bundle is larger than a part: it came in several, and S3 put them together.
    let buckets = moto.ask("GET", "/", "s3", "")?;
    let artifacts = buckets
        .split(['<', '>'])
        .find(|name| name.contains("-artifactsbucket-"))
        .ok_or("no artifacts bucket")?;
    let objects = moto.ask("GET", &format!("/{artifacts}?list-type=2"), "s3", "")?;
    let bundle = objects
        .split("<Contents>")
        .find(|object| object.contains("webui/"))
        .ok_or("no bundle")?;
    assert!(
        bundle.contains("-2&quot;</ETag>") || bundle.contains("-2\"</ETag>"),
        "{bundle}"
    );
    let platform = lock["eu-west-1"].as_str().ok_or("no platform")?;
    assert!(platform.ends_with("/4.10.0"), "{platform}");

    let told = moto.deploy(&[])?;
    assert_eq!((result(&told), uploads(&told)), ("unchanged", 0));
    for more in [&["--exit-code"][..], &["--exit-code", "--online"]] {
        let told = moto.run(&[&["diff", "--json"], more].concat())?;
        assert!(
            told.iter().all(|line| line["changes"].is_null()),
            "{told:?}"
        );
    }
    let told = moto.run(&["status", "--json"])?;
    let statuses: Vec<&Json> = told.iter().map(|line| &line["status"]).collect();
    assert_eq!(statuses, ["CREATE_COMPLETE", "CREATE_COMPLETE"]);
    assert_eq!(told[1]["parameters"]["PlatformArn"], platform);

    // The other stage is not there: it differs, and it has no outputs.
    let other = moto.output(&["diff", "--stage", "prod", "--exit-code"])?;
    assert_eq!(other.status.code(), Some(4));
    let told = moto.run(&["status", "--stage", "prod", "--json"])?;
    assert!(told.iter().all(|line| line["status"].is_null()), "{told:?}");

    // Changed code.
    moto.write("function", "second")?;
    let told = moto.deploy(&[])?;
    assert_eq!((result(&told), uploads(&told)), ("deployed", 1));
    let update = [("Function".to_owned(), "change".to_owned())];
    assert_eq!(changes(&told), update);

    // A changed property, planned first and executed by its name.
    let told = moto.deploy(&["--alarm-email", "somebody@example.com", "--plan"])?;
    assert_eq!(result(&told), "planned");
    let subscription = [("AlarmSubscription".to_owned(), "add".to_owned())];
    assert_eq!(changes(&told), subscription);
    let plan = told.last().and_then(|line| line["plan"].as_str());
    let told = moto.run(&[
        "deploy",
        "--yes",
        "--no-smoke",
        "--json",
        "--plan",
        plan.ok_or("no plan")?,
    ])?;
    assert_eq!(result(&told), "deployed");
    let told = moto.deploy(&[])?;
    assert_eq!((result(&told), uploads(&told)), ("unchanged", 0));

    let outputs = moto.run(&["outputs", "--json"])?;
    let url = outputs[0]["DashboardUrl"].as_str().ok_or("no address")?;
    let printed = moto.output(&["open", "--print"])?;
    assert_eq!(String::from_utf8(printed.stdout)?.trim(), url);

    // The data outlives the stage, until somebody says otherwise.
    let told = moto.destroy(&[])?;
    assert_eq!(result(&told), "destroyed");
    let kept = told.last().and_then(|line| line["kept"].as_array());
    assert_eq!(kept.map(Vec::len), Some(2));
    let told = moto.destroy(&[])?;
    assert_eq!(result(&told), "nothing to destroy");
    let told = moto.destroy(&["--delete-data"])?;
    assert_eq!(result(&told), "destroyed");
    let told = moto.destroy(&["--delete-data"])?;
    let last = told.last().ok_or("nothing was said")?;
    assert_eq!(last["result"], "nothing to destroy");
    assert_eq!(last["kept"], Json::Array(Vec::new()));
    assert!(!moto.output(&["outputs"])?.status.success());
    Ok(())
}

/// The first text between two tags of an answer.
fn between<'a>(answer: &'a str, before: &str, after: &str) -> Result<&'a str, Anything> {
    let rest = answer.split_once(before).ok_or("no beginning")?.1;
    Ok(rest.split_once(after).ok_or("no end")?.0)
}

#[test]
fn what_an_interrupted_destroy_switched_off_is_on_after_a_deployment() -> Result<(), Anything> {
    let moto = Moto::start()?;
    moto.deploy(&[])?;
    let rules = moto.ask("GET", "/rules", "iot", "")?;
    let rule = between(&rules, "\"ruleName\":\"", "\"")?;
    moto.ask("POST", &format!("/rules/{rule}/disable"), "iot", "")?;
    let mappings = moto.ask("GET", "/2015-03-31/event-source-mappings/", "lambda", "")?;
    let mapping = between(&mappings, "\"UUID\":\"", "\"")?;
    let path = format!("/2015-03-31/event-source-mappings/{mapping}");
    moto.ask("PUT", &path, "lambda", "{\"Enabled\": false}")?;
    let functions = moto.ask("GET", "/2015-03-31/functions/", "lambda", "")?;
    let function = between(&functions, "\"FunctionName\":\"", "\"")?;
    let path = format!("/2015-03-31/functions/{function}/configuration");
    let nowhere = "{\"VpcConfig\": {\"SubnetIds\": [], \"SecurityGroupIds\": []}}";
    moto.ask("PUT", &path, "lambda", nowhere)?;

    let told = moto.deploy(&[])?;
    assert_eq!((result(&told), uploads(&told)), ("unchanged", 0));
    let resumed = told.iter().find_map(|line| line["resumed"].as_array());
    assert_eq!(resumed.map(Vec::len), Some(3), "{told:?}");
    let rules = moto.ask("GET", "/rules", "iot", "")?;
    assert!(!rules.contains("\"ruleDisabled\":true"), "{rules}");
    let mappings = moto.ask("GET", "/2015-03-31/event-source-mappings/", "lambda", "")?;
    assert_eq!(between(&mappings, "\"State\":\"", "\"")?, "Enabled");
    let functions = moto.ask("GET", "/2015-03-31/functions/", "lambda", "")?;
    assert!(functions.contains("\"subnet-"), "{functions}");

    let told = moto.deploy(&[])?;
    assert!(told.iter().all(|line| line["resumed"].is_null()));
    Ok(())
}

#[test]
fn interfaces_of_exactly_this_function_are_deleted_with_the_stage() -> Result<(), Anything> {
    let moto = Moto::start()?;
    moto.deploy(&[])?;
    let functions = moto.ask("GET", "/2015-03-31/functions/", "lambda", "")?;
    let function = between(&functions, "\"FunctionName\":\"", "\"")?;
    // In a network of its own, so that moto minds nothing.
    let subnets = "Action=DescribeSubnets&Version=2016-11-15&Filter.1.Name=default-for-az&Filter.1.Value.1=true";
    let subnets = moto.ask("POST", "/", "ec2", subnets)?;
    let subnet = between(&subnets, "<subnetId>", "</subnetId>")?;
    let mut ids = Vec::new();
    for name in [function.to_owned(), format!("{function}-2")] {
        let create = format!(
            "Action=CreateNetworkInterface&Version=2016-11-15&SubnetId={subnet}&Description=AWS+Lambda+VPC+ENI-{name}-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
        );
        let created = moto.ask("POST", "/", "ec2", &create)?;
        let id = between(&created, "<networkInterfaceId>", "</networkInterfaceId>")?;
        ids.push(id.to_owned());
    }
    // Elastic IP addresses that carry the stage's tag are told at the end.
    let address = "Action=AllocateAddress&Version=2016-11-15&Domain=vpc&TagSpecification.1.ResourceType=elastic-ip&TagSpecification.1.Tag.1.Key=sensors%3Astage&TagSpecification.1.Tag.1.Value=dev";
    let address = moto.ask("POST", "/", "ec2", address)?;
    let address = between(&address, "<publicIp>", "</publicIp>")?.to_owned();

    let told = moto.destroy(&["--delete-data"])?;
    assert_eq!(result(&told), "destroyed");
    let left = moto.ask(
        "POST",
        "/",
        "ec2",
        "Action=DescribeNetworkInterfaces&Version=2016-11-15",
    )?;
    assert!(!left.contains(&ids[0]), "{left}");
    assert!(left.contains(&ids[1]), "{left}");
    let leftovers = &told.last().ok_or("nothing was said")?["leftovers"];
    assert_eq!(leftovers[0]["kind"], "Elastic IP address");
    assert_eq!(leftovers[0]["name"], address.as_str());
    Ok(())
}
