//! The Lambda function's program; everything is in the library.

fn main() -> anyhow::Result<()> {
    // Before anything speaks TLS: rustls refuses to choose among providers by itself.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was already installed"))?;
    functions::run(|name| std::env::var(name).ok())
}
