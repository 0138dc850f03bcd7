# The commands of CONTRIBUTING.md; `just` lists them.

# List the recipes
default:
    @just --list

# Build the host and the bundled plugins
build:
    cargo build --release --workspace

# Run everything that needs no other tools
test:
    cargo test --workspace

# Everything a change has to pass; installs what it needs (Debian)
ci:
    bash .ci/run

# Check formatting and lints, with and without the prometheus feature, and that the fuzz targets build
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy -p conductor --no-default-features --all-targets -- -D warnings
    CUSTOM_LIBFUZZER_PATH=/dev/null cargo check --manifest-path fuzz/Cargo.toml --target-dir target

# Build the API documentation without warnings
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Test one crate of the host: `just crate engine guard::`
crate NAME *FILTER:
    cargo test -p conductor-{{ NAME }} {{ FILTER }}

# Test a real host, seen from outside: `just scenario reload::`
scenario *FILTER:
    cargo test --workspace --test scenarios -- {{ FILTER }}

# Try to escape from the sandbox
sandbox:
    cargo test -p conductor --test sandbox

# Build for Windows and test under wine: `just windows`, `just windows all`, `just windows reload::NAME` (Debian)
windows *SCENARIO:
    bash .ci/windows {{ SCENARIO }}

# Test plugins of other compilers and API versions
matrix:
    cargo test --workspace --features conductor-tests/matrix --test matrix

# Test the lock around a platform's calls under every interleaving
loom:
    RUSTFLAGS="--cfg conductor_loom" cargo test -p conductor-core --target-dir target/loom loom_tests

# Break the rules of core one by one, and list what no test notices; takes an hour or two (cargo install cargo-mutants)
mutants *ARGS:
    cargo mutants -p conductor-core --minimum-test-timeout 120 {{ ARGS }}

# Measure what a host costs, beside goals and collectd (Linux, as root): `just bench`, `just bench checks idle`
bench *ARGS:
    cargo bench -p conductor-tests -- {{ ARGS }}

# Add the figures of a run to docs/internals/performance-history.md
bench-record:
    cargo bench -p conductor-tests -- --record

# Compare the instructions of the hot paths with those recorded; `just instructions --record` accepts them (valgrind)
instructions *ARGS:
    cargo bench -p conductor-engine --features callgrind --bench instructions -- {{ ARGS }}

# Run the fault-injection drill
drill *ARGS: build
    target/release/conductor drill {{ ARGS }}

# Fuzz a target for three minutes; see fuzz/README.md
fuzz TARGET:
    cargo +nightly fuzz run {{ TARGET }} -- -max_total_time=180 -max_len=8192

# Make the Debian package and the tarball, with their debug information (Debian)
package:
    packaging/build

# Write the generated parts of the documentation again
docs:
    UPDATE_DOCS=1 cargo test --workspace --test scenarios docs::reference

# Serve the documentation as a book
book:
    mdbook serve docs
