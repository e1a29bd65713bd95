"""What is a wheel? Its archive, native libraries, label and metadata, and the record and verdict next to it."""
