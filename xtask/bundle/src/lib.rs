//! The Beanstalk bundle: Procfile, nginx files, deterministic zip.
