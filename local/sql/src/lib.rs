//! AWS IoT SQL: parse once, evaluate per message.
