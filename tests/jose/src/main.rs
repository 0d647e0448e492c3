//! Prints the test data of [`jose_interop::minted`].

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", jose_interop::minted()?);
    Ok(())
}
