//! What differs between the stages, as values.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use cfn::Problem;
use contract::environment::MAX_FRAMES_PER_SECOND;
use contract::oidc::Oidc;

/// A deployment of its own: its stacks are named after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The cheapest sensible.
    Dev,
    /// Highly available.
    Prod,
}

impl Stage {
    /// All stages; each is snapshotted.
    pub const ALL: [Stage; 2] = [Stage::Dev, Stage::Prod];

    /// The stage's configuration.
    pub fn config(self) -> Config {
        match self {
            Stage::Dev => Config {
                stage: self,
                termination_protection: false,
                arch: Arch::Arm64,
                encryption: Encryption::AwsManaged,
                log_retention: LogRetention::Week,
                network: Network {
                    allowed_cidrs: &["0.0.0.0/0"],
                    nat_gateways: false,
                    flow_logs: false,
                },
                stream: Stream {
                    mode: StreamMode::Provisioned { shards: 1 },
                    retention_hours: 24,
                },
                archive: Archive {
                    expiration_days: Some(90),
                },
                cache: Cache {
                    node_type: "cache.t4g.micro",
                    nodes: 1,
                    snapshot_retention_days: 1,
                    keep_snapshot: false,
                },
                processing: Processing {
                    memory_mb: 128,
                    batch_size: 100,
                    batching_window_seconds: 1,
                    parallelization_factor: 1,
                },
                dashboard: Dashboard {
                    instance_size: InstanceSize::Micro,
                    min_instances: 1,
                    max_instances: 2,
                    public_instances: true,
                    frames_per_second: 60,
                    keep_logs: false,
                    transport: Transport::HttpsOrPlainHttp,
                    sign_in: None,
                },
                budget: None,
            },
            Stage::Prod => Config {
                stage: self,
                termination_protection: true,
                arch: Arch::Arm64,
                encryption: Encryption::AwsManaged,
                log_retention: LogRetention::Quarter,
                network: Network {
                    allowed_cidrs: &["0.0.0.0/0"],
                    nat_gateways: true,
                    flow_logs: true,
                },
                stream: Stream {
                    mode: StreamMode::OnDemand,
                    retention_hours: 168,
                },
                archive: Archive {
                    expiration_days: None,
                },
                cache: Cache {
                    node_type: "cache.t4g.small",
                    nodes: 2,
                    snapshot_retention_days: 7,
                    keep_snapshot: true,
                },
                processing: Processing {
                    memory_mb: 256,
                    batch_size: 1000,
                    batching_window_seconds: 1,
                    parallelization_factor: 2,
                },
                dashboard: Dashboard {
                    instance_size: InstanceSize::Small,
                    min_instances: 2,
                    max_instances: 4,
                    public_instances: false,
                    frames_per_second: 20,
                    keep_logs: true,
                    transport: Transport::Https,
                    sign_in: None,
                },
                budget: None,
            },
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Stage::Dev => "dev",
            Stage::Prod => "prod",
        })
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Stage::ALL
            .into_iter()
            .find(|stage| stage.to_string() == text)
            .ok_or_else(|| format!("got stage `{text}`, expected `dev` or `prod`"))
    }
}

/// Everything that a stage chooses.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which stage.
    pub stage: Stage,
    /// Whether `deploy` protects the stacks from deletion; `destroy` lifts that after its question.
    pub termination_protection: bool,
    /// The processors of function and web UI.
    pub arch: Arch,
    /// Whose key data at rest is encrypted with.
    pub encryption: Encryption,
    /// How long logs are kept.
    pub log_retention: LogRetention,
    /// Network.
    pub network: Network,
    /// Kinesis stream.
    pub stream: Stream,
    /// Archive of every message.
    pub archive: Archive,
    /// Cache of the live state.
    pub cache: Cache,
    /// Function and event source mapping.
    pub processing: Processing,
    /// Web UI.
    pub dashboard: Dashboard,
    /// Budget that mails to the alarms' address; `None` for none.
    pub budget: Option<Budget>,
}

impl Config {
    /// Choices that do not go together.
    ///
    /// Plain HTTP to everybody is refused in `prod`, unless the configuration says so in so many words.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.stage == Stage::Prod
            && self.dashboard.transport == Transport::HttpsOrPlainHttp
            && is_public(self.network.allowed_cidrs)
        {
            let cidrs = self.network.allowed_cidrs.join(", ");
            problems.push(Problem::of(
                "DashboardEnvironment",
                format!(
                    "stage {} would answer {cidrs} over plain HTTP where no certificate is given: set `transport` to `Transport::Https`, narrow `allowed_cidrs`, or say `Transport::PublicPlainHttpIsAccepted`",
                    self.stage
                ),
            ));
        }
        let nodes = self.cache.nodes;
        if !(1..=Cache::MOST_NODES).contains(&nodes) {
            problems.push(Problem::of(
                "Cache",
                format!("`nodes` is {nodes}, expected 1 or {}", Cache::MOST_NODES),
            ));
        }
        let frames = self.dashboard.frames_per_second;
        if !(1..=MAX_FRAMES_PER_SECOND).contains(&frames) {
            problems.push(Problem::of(
                "DashboardEnvironment",
                format!("`frames_per_second` is {frames}, expected 1 to {MAX_FRAMES_PER_SECOND}"),
            ));
        }
        problems.extend(self.sign_in_problems());
        if self.budget.is_some_and(|budget| budget.monthly_usd == 0) {
            let message = "`monthly_usd` is 0, expected USD a month above 0";
            problems.push(Problem::of("Budget", message.to_owned()));
        }
        problems
    }

    /// What is wrong with the sign-in at the balancer.
    fn sign_in_problems(&self) -> Vec<Problem> {
        let Some(oidc) = &self.dashboard.sign_in else {
            return Vec::new();
        };
        let of = |message| Problem::of("DashboardEnvironment", message);
        let mut problems: Vec<Problem> = oidc
            .problems()
            .into_iter()
            .map(|problem| of(format!("sign-in at the balancer: {problem}")))
            .collect();
        if self.dashboard.transport != Transport::Https {
            problems.push(of(format!(
                "`sign_in` is set, but stage {} may be deployed without a certificate, and a balancer signs people in over HTTPS only: set `transport` to `Transport::Https`, so that `CertificateArn` must be given",
                self.stage
            )));
        }
        problems
    }
}

/// Whether address ranges are more than what belongs to somebody: outside of the private ones more than
/// the largest block that is given to one organisation, an IPv4 /8 or an IPv6 /20. A range that is not
/// understood counts as everybody.
fn is_public(cidrs: &[&str]) -> bool {
    const PRIVATE: [(&str, u32); 5] = [
        ("10.0.0.0", 8),
        ("100.64.0.0", 10),
        ("172.16.0.0", 12),
        ("192.168.0.0", 16),
        ("fc00::", 7),
    ];
    // The share of all addresses of its kind, in 2^-32.
    let share = |cidr: &str| -> Option<(bool, u64)> {
        let (address, length) = cidr.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length: u32 = length.parse().ok()?;
        let is_within = |(private, shortest): &(&str, u32)| {
            let bits = |address: IpAddr| match address {
                IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
                IpAddr::V6(address) => u128::from(address),
            };
            private.parse::<IpAddr>().is_ok_and(|private| {
                private.is_ipv4() == address.is_ipv4()
                    && length >= *shortest
                    && (bits(private) ^ bits(address)) >> (128 - shortest) == 0
            })
        };
        if PRIVATE.iter().any(is_within) {
            return Some((address.is_ipv4(), 0));
        }
        Some((address.is_ipv4(), 1 << 32_u32.saturating_sub(length)))
    };
    let shares: Option<Vec<(bool, u64)>> = cidrs.iter().map(|cidr| share(cidr)).collect();
    let Some(shares) = shares else { return true };
    let sum = |v4: bool| -> u64 {
        let of = shares.iter().filter(|(is_v4, _)| *is_v4 == v4);
        of.map(|(_, share)| share).sum()
    };
    sum(true) > 1 << 24 || sum(false) > 1 << 12
}

/// A processor architecture; build target, function and instance types follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// Graviton: cheaper for the same work.
    Arm64,
    /// Intel and AMD.
    X86_64,
}

impl Arch {
    /// Rust's target triple.
    pub const fn target(self) -> &'static str {
        match self {
            Arch::Arm64 => "aarch64-unknown-linux-gnu",
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
        }
    }

    /// Beanstalk's name, as in `aws:ec2:instances` `SupportedArchitectures`.
    pub const fn beanstalk(self) -> &'static str {
        match self {
            Arch::Arm64 => "arm64",
            Arch::X86_64 => "x86_64",
        }
    }
}

/// Whose key data at rest is encrypted with. Nothing is unencrypted in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// The keys that AWS owns or manages for each service: no cost, nothing to administer. The alarms'
    /// topic alone has a key of ours, because AWS's key for SNS does not admit CloudWatch.
    AwsManaged,
    /// One key of our own for everything, about USD 1 a month and its requests. It turns every year, its
    /// use is in CloudTrail, and whoever disables it makes the data unreadable.
    ///
    /// It outlives the stack, because the archive does. To change an existing stage from the one to the
    /// other replaces the cache.
    OwnKey,
}

/// How long logs are kept; CloudWatch takes certain numbers of days only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRetention {
    /// 7 days.
    Week,
    /// 90 days.
    Quarter,
}

impl LogRetention {
    /// The number of days.
    pub const fn days(self) -> u32 {
        match self {
            LogRetention::Week => 7,
            LogRetention::Quarter => 90,
        }
    }
}

/// Who may reach the dashboard, and how instances reach out.
#[derive(Clone, Debug)]
pub struct Network {
    /// Address ranges that may open the dashboard.
    pub allowed_cidrs: &'static [&'static str],
    /// Whether the private subnets reach the internet, through one NAT gateway in each zone
    /// (about USD 33 a month each).
    pub nat_gateways: bool,
    /// Whether every connection in the VPC is written down, in CloudWatch Logs.
    pub flow_logs: bool,
}

/// Capacity and retention of the stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Capacity.
    pub mode: StreamMode,
    /// 24–8760 hours.
    pub retention_hours: u32,
}

/// How the stream's capacity is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    /// So many shards, each 1 MB and 1,000 records a second.
    Provisioned {
        /// Number of shards.
        shards: u32,
    },
    /// Kinesis scales by itself.
    OnDemand,
}

/// What becomes of the archive.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Objects older than this are deleted; `None` keeps them for good.
    pub expiration_days: Option<u32>,
}

/// Size of the cache.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Such as `cache.t4g.micro`.
    pub node_type: &'static str,
    /// 1, or 2 for a replica with automatic failover in the other zone.
    pub nodes: u32,
    /// Days that daily snapshots are kept, 1–35.
    pub snapshot_retention_days: u32,
    /// Whether a last snapshot is taken when the cache is deleted or replaced.
    pub keep_snapshot: bool,
}

impl Cache {
    /// Nodes at most: each has alarms of its own, and those are written out.
    pub const MOST_NODES: u32 = 2;
}

/// How records are processed.
#[derive(Clone, Debug)]
pub struct Processing {
    /// Memory of the function, 128–10240 MB; processor time grows with it.
    pub memory_mb: u32,
    /// Records of a batch at most, 1–10000.
    pub batch_size: u32,
    /// Seconds to wait for a batch to fill, 0–300.
    pub batching_window_seconds: u32,
    /// Concurrent batches of a shard, 1–10; order is kept for each partition key.
    pub parallelization_factor: u32,
}

/// Instances of the web UI.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Their size.
    pub instance_size: InstanceSize,
    /// At least so many.
    pub min_instances: u32,
    /// At most so many.
    pub max_instances: u32,
    /// Whether they stand in public subnets with addresses of their own, which spares the NAT
    /// gateways; security groups admit the balancer alone either way.
    pub public_instances: bool,
    /// Frames that a browser gets in a second at most, 1–100. Many browsers cost less with few; a value
    /// is shown about a second divided by this later at most, so the median of that wait is half of it.
    pub frames_per_second: u32,
    /// Whether the web UI's logs stay when the environment is replaced or deleted; they are kept as long
    /// as all logs of the stage.
    pub keep_logs: bool,
    /// How browsers reach it.
    pub transport: Transport,
    /// Who signs visitors in at the balancer; `None`: whoever is in the allowed ranges sees the dashboard.
    pub sign_in: Option<Oidc>,
}

/// What a stage may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// USD a month, above 0; `cargo xtask cost` estimates what the stage costs.
    pub monthly_usd: u32,
}

/// How browsers reach the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTPS alone: whoever deploys must give a certificate, and plain HTTP is redirected.
    Https,
    /// The same where a certificate is given, and plain HTTP where none is. Anybody on the way reads
    /// what is shown then: for trying out.
    HttpsOrPlainHttp,
    /// As [`Transport::HttpsOrPlainHttp`], and whoever wrote this knows that everybody may come over
    /// plain HTTP in a stage that is used in earnest.
    PublicPlainHttpIsAccepted,
}

/// Size of the web UI's instances; the family follows from the architecture.
///
/// One type, not a list: without Spot capacity Beanstalk uses the first of a list alone ("General options
/// for all environments", `aws:ec2:instances`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceSize {
    /// 1 GB of memory.
    Micro,
    /// 2 GB of memory.
    Small,
}

impl InstanceSize {
    /// The instance type, such as `t4g.micro`.
    pub fn instance_type(self, arch: Arch) -> String {
        let family = match arch {
            Arch::Arm64 => "t4g",
            Arch::X86_64 => "t3",
        };
        let size = match self {
            InstanceSize::Micro => "micro",
            InstanceSize::Small => "small",
        };
        format!("{family}.{size}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prod_is_not_public_over_plain_http_unless_it_says_so() {
        let with = |transport, allowed_cidrs| {
            let mut config = Stage::Prod.config();
            config.dashboard.transport = transport;
            config.network.allowed_cidrs = allowed_cidrs;
            config.problems().len()
        };
        let (everybody, some): (&[&str], &[&str]) = (&["0.0.0.0/0"], &["192.0.2.0/24"]);
        assert_eq!(with(Transport::HttpsOrPlainHttp, everybody), 1);
        assert_eq!(with(Transport::HttpsOrPlainHttp, &["::/0"]), 1);
        assert_eq!(with(Transport::HttpsOrPlainHttp, some), 0);
        let halves: &[&str] = &["0.0.0.0/1", "128.0.0.0/1"];
        assert_eq!(with(Transport::HttpsOrPlainHttp, halves), 1);
        assert_eq!(with(Transport::HttpsOrPlainHttp, &["2000::/3"]), 1);
        assert_eq!(with(Transport::HttpsOrPlainHttp, &["anywhere"]), 1);
        let office: &[&str] = &["10.0.0.0/8", "172.16.0.0/12", "2001:db8::/32", "fc00::/7"];
        assert_eq!(with(Transport::HttpsOrPlainHttp, office), 0);
        assert_eq!(with(Transport::HttpsOrPlainHttp, &["8.0.0.0/7"]), 1);
        assert_eq!(with(Transport::Https, everybody), 0);
        assert_eq!(with(Transport::PublicPlainHttpIsAccepted, everybody), 0);
        assert!(
            Stage::ALL
                .iter()
                .all(|stage| stage.config().problems().is_empty())
        );
    }

    #[test]
    fn budget_of_nothing_is_refused() {
        let problems = |monthly_usd| {
            let mut config = Stage::Dev.config();
            config.budget = Some(Budget { monthly_usd });
            config.problems().len()
        };
        assert_eq!((problems(0), problems(1)), (1, 0));
    }

    #[test]
    fn sign_in_needs_https_and_right_settings() {
        let oidc = Oidc {
            issuer: "https://id.example.com",
            authorization_endpoint: "https://id.example.com/authorize",
            token_endpoint: "https://id.example.com/token",
            user_info_endpoint: "https://id.example.com/userinfo",
            client_id: "dashboard",
            client_secret: contract::oidc::Secret {
                name: "sensors/oidc",
                key: "clientSecret",
            },
            scope: "openid",
            session_seconds: 3_600,
            provider_cidrs: &["0.0.0.0/0"],
        };
        let with = |stage: Stage, transport, sign_in| {
            let mut config = stage.config();
            config.dashboard.transport = transport;
            config.dashboard.sign_in = Some(sign_in);
            let synthesised = crate::synth_with(&config);
            synthesised.err().map(|problems| problems.to_string())
        };
        assert_eq!(with(Stage::Prod, Transport::Https, oidc), None);
        assert_eq!(with(Stage::Dev, Transport::Https, oidc), None);
        let missing = with(Stage::Dev, Transport::HttpsOrPlainHttp, oidc).unwrap_or_default();
        for part in ["DashboardEnvironment", "`transport`", "`Transport::Https`"] {
            assert!(missing.contains(part), "{missing}");
        }
        let wrong = Oidc {
            issuer: "http://id.example.com",
            session_seconds: 0,
            ..oidc
        };
        let wrong = with(Stage::Prod, Transport::Https, wrong).unwrap_or_default();
        for part in ["`issuer`", "`session_seconds`"] {
            assert!(wrong.contains(part), "{wrong}");
        }
    }

    #[test]
    fn every_cache_node_has_its_alarms() {
        for (nodes, expected) in [(0, 1), (1, 0), (2, 0), (3, 1)] {
            let mut config = Stage::Dev.config();
            config.cache.nodes = nodes;
            assert_eq!(config.problems().len(), expected, "{nodes}");
        }
    }

    #[test]
    fn stages_are_read_as_they_are_written() {
        for stage in Stage::ALL {
            assert_eq!(stage.to_string().parse(), Ok(stage));
        }
        assert_eq!(
            "staging".parse::<Stage>(),
            Err("got stage `staging`, expected `dev` or `prod`".to_owned())
        );
    }
}
