//! The whole pipeline, the browser, the deployment: tests only.
