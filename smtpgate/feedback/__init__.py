"""The listener for bounces and complaints."""
