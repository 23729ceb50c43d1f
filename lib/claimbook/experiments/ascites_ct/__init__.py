"""What the chapter on ascites in CT measures: simulated scans, networks trained on them, published figures audited."""
