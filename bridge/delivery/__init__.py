"""Use case 2: due jobs are sent to TheEye, and the outcome is recorded."""
