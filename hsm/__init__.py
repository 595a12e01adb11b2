"""PKCS#11: keys, PRF, sealing, ceremony and provisioning, probe, health."""
