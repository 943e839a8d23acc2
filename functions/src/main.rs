//! The Lambda function's program; the code is in the library.

fn main() -> anyhow::Result<()> {
    // Before the first TLS connection: rustls does not choose a provider by itself.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| {
            anyhow::anyhow!("cannot install the TLS provider: another one is installed")
        })?;
    functions::run(|name| std::env::var(name).ok())
}
