//! Prints what [`jose_interop::minted`] makes.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", jose_interop::minted()?);
    Ok(())
}
